//go:build !unix

package dbtest

import "errors"

type process struct {
	dir   string
	abort string
	args  []string
	ping  func() error
}

func newProcess(Options, ...string) (*process, error) {
	return nil, errors.New("dbtest: servers are started on Unix only; set a DSN")
}

func (p *process) run(...string) error { return errors.ErrUnsupported }
func (p *process) start() error        { return errors.ErrUnsupported }
func (p *process) end(string)          {}
func (p *process) remove()             {}
