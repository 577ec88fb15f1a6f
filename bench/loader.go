package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// The loader sends to a receiver that is measured, from a process of its own: this program again, with the flag -loader. It
// reads its settings as JSON, makes its requests and connections, answers with a line, and sends when it gets one.
const loaderFlag = "-loader"

type loaderSettings struct {
	Address     string
	N           int
	Connections int
}

// loader is the parent's end.
type loader struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startLoader(s loaderSettings) (*loader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	l := &loader{cmd: exec.Command(self, loaderFlag)}
	l.cmd.Stderr = os.Stderr
	if l.in, err = l.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := l.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewReader(out)
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	err = json.NewEncoder(l.in).Encode(s)
	if err == nil {
		_, err = l.out.ReadString('\n')
	}
	if err != nil {
		return nil, errors.Join(err, l.stop())
	}
	return l, nil
}

// run lets it send, and returns how long that took.
func (l *loader) run() (took time.Duration, err error) {
	if _, err := fmt.Fprintln(l.in, "go"); err != nil {
		return 0, err
	}
	_, err = fmt.Fscanln(l.out, &took)
	return took, err
}

func (l *loader) stop() error {
	l.in.Close()
	return l.cmd.Wait()
}

// serveLoader is the child's end. Bodies differ between loaders by the time in them.
func serveLoader() error {
	in := bufio.NewScanner(os.Stdin)
	if !in.Scan() {
		return in.Err()
	}
	var s loaderSettings
	if err := json.Unmarshal(in.Bytes(), &s); err != nil {
		return err
	}
	bodies := make([][]byte, s.N)
	for i := range bodies {
		bodies[i] = makePayload(i)
	}
	fmt.Println("ready")
	if !in.Scan() {
		return in.Err()
	}
	began := time.Now()
	if err := postWire("http://"+s.Address+"/hook", bodies, s.Connections); err != nil {
		return err
	}
	fmt.Println(time.Since(began).Nanoseconds())
	return nil
}
