package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// A dispatcher in a process of its own is this program again, with the flag -dispatcher. It reads its settings as JSON and then
// commands, a line each; it ends when its standard input does.
const dispatcherFlag = "-dispatcher"

// The commands. Each is answered by a line: the number of deliveries that it has recorded.
const (
	childRun   = "run"
	childCount = "count"
)

// childSettings are what a dispatcher process is told.
type childSettings struct {
	DSN       string
	URL       string
	Endpoints int
	Owner     string
	Timeout   time.Duration // of an attempt; zero: the library's
	Margin    time.Duration // of leases; zero: the library's
}

// child is the parent's end of a dispatcher process.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild starts one, which does not run yet.
func startChild(s childSettings) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(self, dispatcherFlag)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(s)
	if err == nil {
		_, err = c.ask(string(text))
	}
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

// ask writes a line and reads the number that answers it.
func (c *child) ask(line string) (n int, err error) {
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		return 0, err
	}
	_, err = fmt.Fscanln(c.out, &n)
	return n, err
}

// stop lets it finish what is under way.
func (c *child) stop() error {
	c.in.Close()
	return c.cmd.Wait()
}

// kill ends it at once.
func (c *child) kill() error {
	err := c.cmd.Process.Kill()
	c.in.Close()
	c.cmd.Wait() // says that it was killed
	return err
}

// serveDispatcher is the child's end.
func serveDispatcher() error {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return in.Err()
	}
	var s childSettings
	if err := json.Unmarshal(in.Bytes(), &s); err != nil {
		return err
	}
	store, d, err := s.dispatcher()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	running := false
	fmt.Println(0)
	for in.Scan() {
		if in.Text() == childRun {
			running = true
			go func() { ended <- d.Run(ctx) }()
		}
		fmt.Println(store.delivered.Load())
	}
	cancel()
	if !running {
		return nil
	}
	return <-ended
}

func (s *childSettings) dispatcher() (*counted, *webhook.Dispatcher, error) {
	db, err := sql.Open("pgx", s.DSN)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxIdleConns(idleConns)
	full, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
	if err != nil {
		return nil, nil, err
	}
	endpoints, err := benchEndpoints(s.URL, s.Endpoints, endpointID)
	if err != nil {
		return nil, nil, err
	}
	for i := range endpoints {
		endpoints[i].Timeout = s.Timeout
	}
	store := &counted{fullStore: full}
	d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{
		Endpoints: endpoints, AllowPrivate: true, Owner: s.Owner, LeaseMargin: s.Margin, Logger: slog.Default(),
	})
	return store, d, err
}
