package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// The receiver is a process of its own, so that its CPU time is not the sender's: this program again, with the flag
// -receiver. It is HTTP/1.1 by hand, just enough to cost little. It is told what to do by lines of JSON on its standard input.
const receiverFlag = "-receiver"

// command asks the receiver for its figures.
type command struct {
	Wait    int           // answer when so many requests have come, …
	Timeout time.Duration // … or after this long
	Reset   bool          // forget everything after answering
	Half    int           // from now on: tell how requests are spread over endpoints when so many have come
}

// figures are the receiver's answer.
type figures struct {
	Requests int           // answered
	Distinct int           // of them, told apart by the number in the body
	Hung     int           // to paths that never answer
	Last     time.Time     // when the last one was received
	P50      time.Duration // from the time in the body to its receipt
	P99      time.Duration
	Spread   *spread // of the first Half requests, when they were asked for and have come
}

// spread is how requests were shared among the endpoints that got any.
type spread struct {
	Endpoints   int
	Least, Most int
}

// receiver is the parent's end.
type receiver struct {
	url string
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startReceiver() (*receiver, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r := &receiver{cmd: exec.Command(self, receiverFlag)}
	r.cmd.Stderr = os.Stderr
	if r.in, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.out = bufio.NewReader(out)
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	addr, err := r.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, r.stop())
	}
	r.url = "http://" + addr[:len(addr)-1]
	return r, nil
}

func (r *receiver) ask(c command) (figures, error) {
	var f figures
	line, err := json.Marshal(c)
	if err != nil {
		return f, err
	}
	if _, err := r.in.Write(append(line, '\n')); err != nil {
		return f, err
	}
	answer, err := r.out.ReadBytes('\n')
	if err != nil {
		return f, fmt.Errorf("receiver: %w", err)
	}
	return f, json.Unmarshal(answer, &f)
}

// await waits for n requests and forgets them.
func (r *receiver) await(n int, limit time.Duration) (figures, error) {
	f, err := r.ask(command{Wait: n, Timeout: limit, Reset: true})
	if err == nil && f.Requests < n {
		err = fmt.Errorf("receiver: %d of %d requests came within %v", f.Requests, n, limit)
	}
	return f, err
}

// watch makes the receiver tell the spread of its next n requests.
func (r *receiver) watch(n int) error {
	_, err := r.ask(command{Reset: true, Half: n})
	return err
}

// stop closes the receiver's standard input, which ends it.
func (r *receiver) stop() error {
	r.in.Close()
	return r.cmd.Wait()
}

// server is the child's end.
type server struct {
	requests atomic.Int64
	hung     atomic.Int64
	mu       sync.Mutex
	last     time.Time
	seen     map[int64]struct{}
	latency  []time.Duration
	half     int         // when to tell shares, in requests; 0: never
	shares   map[int]int // requests by endpoint
	spread   *spread
}

// serveReceiver runs the receiver until its standard input ends.
func serveReceiver() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	s := &server{seen: make(map[int64]struct{}), shares: make(map[int]int)}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for {
		var c command
		if err := in.Decode(&c); err != nil {
			return nil
		}
		if err := out.Encode(s.answer(c)); err != nil {
			return err
		}
	}
}

func (s *server) answer(c command) figures {
	ctx, cancel := context.WithTimeout(context.Background(), c.Timeout)
	defer cancel()
	for int(s.requests.Load()) < c.Wait && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := figures{Requests: int(s.requests.Load()), Distinct: len(s.seen), Hung: int(s.hung.Load()), Last: s.last, Spread: s.spread}
	if n := len(s.latency); n > 0 {
		slices.Sort(s.latency)
		f.P50, f.P99 = s.latency[n/2], s.latency[n*99/100]
	}
	if c.Reset {
		s.requests.Store(0)
		s.hung.Store(0)
		clear(s.seen)
		s.latency = s.latency[:0]
		clear(s.shares)
		s.spread, s.half = nil, c.Half
	}
	return f
}

var (
	okAnswer     = []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	lengthHeader = []byte("content-length:")
	hangPath     = []byte("/hang")
	waitPath     = []byte("/wait/")
)

// target is what a request's path asks for: /hang no answer, /wait/20/7 one after 20 ms; the last number is the endpoint.
type target struct {
	hang     bool
	wait     time.Duration
	endpoint int
}

func parseTarget(line []byte) (t target) {
	_, path, _ := bytes.Cut(line, []byte(" "))
	path, _, _ = bytes.Cut(path, []byte(" "))
	if bytes.HasPrefix(path, hangPath) {
		t.hang = true
		return t
	}
	if rest, ok := bytes.CutPrefix(path, waitPath); ok {
		var text []byte
		text, path, _ = bytes.Cut(rest, []byte("/"))
		n, _ := strconv.Atoi(string(text))
		t.wait = time.Duration(n) * time.Millisecond
	}
	t.endpoint, _ = strconv.Atoi(string(bytes.TrimPrefix(path, []byte("/"))))
	return t
}

// serve answers the requests of a connection until it ends.
func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 16<<10)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		to := parseTarget(line)
		length := 0
		for {
			if line, err = in.ReadSlice('\n'); err != nil {
				return
			}
			if len(line) <= 2 {
				break
			}
			if len(line) > len(lengthHeader) && bytes.EqualFold(line[:len(lengthHeader)], lengthHeader) {
				length, _ = strconv.Atoi(string(bytes.TrimSpace(line[len(lengthHeader):])))
			}
		}
		body, err := in.Peek(length)
		if err != nil {
			return
		}
		if to.hang {
			s.hung.Add(1)
			io.Copy(io.Discard, in)
			return
		}
		s.note(body, to.endpoint)
		in.Discard(length)
		time.Sleep(to.wait)
		if _, err := conn.Write(okAnswer); err != nil {
			return
		}
	}
}

// note counts a request by its endpoint, and by the time and the number at the beginning of its body (see makePayload).
func (s *server) note(body []byte, endpoint int) {
	now := time.Now()
	sent, _ := strconv.ParseInt(string(body[timeAt:timeAt+timeLen]), 10, 64)
	number, _ := strconv.ParseInt(string(body[numberAt:numberAt+numberLen]), 10, 64)
	s.mu.Lock()
	s.last = now
	s.seen[number] = struct{}{}
	s.latency = append(s.latency, now.Sub(time.Unix(0, sent)))
	if s.half > 0 {
		s.shares[endpoint]++
		if len(s.latency) == s.half {
			s.spread = newSpread(s.shares)
		}
	}
	s.mu.Unlock()
	s.requests.Add(1)
}

func newSpread(shares map[int]int) *spread {
	counts := slices.Sorted(maps.Values(shares))
	return &spread{Endpoints: len(counts), Least: counts[0], Most: counts[len(counts)-1]}
}
