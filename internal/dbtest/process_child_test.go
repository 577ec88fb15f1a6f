package dbtest

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// childSecret signs what child processes send.
const childSecret = "a secret that both ends of these tests know"

// childConfig tells a child process what to do.
type childConfig struct {
	Name    string // owner of its leases and its User-Agent
	Driver  string
	DSN     string
	Dialect sqlstore.Dialect

	URL         string // of the receiver; "" where nothing is sent
	Endpoints   int    // each gets every event
	MaxInFlight int
	Timeout     time.Duration
	Margin      time.Duration
	Senders     int
	Rate        webhook.Rate  // of each endpoint
	Tenants     []childTenant // their endpoints, instead of Endpoints that have none

	Prefix string // of the event IDs: Prefix-00000 and up
	Events int    // how many it sends
	Point  string // where to stop for the kill; "" nowhere
	After  int    // acknowledged events before Point counts
	Break  string // a fault of the store, to show that the tests see it

	Bound  int  // of each endpoint's backlog; 0: none
	Oldest bool // beyond it the oldest give way

	NoWait bool // a receiver that answers 409 at once instead of waiting for a twin
}

// childTenant is a tenant with its endpoints, named after it.
type childTenant struct {
	Name      string
	Weight    int
	Endpoints int
}

// childEvent is the ID of an event.
func childEvent(prefix string, i int) string { return fmt.Sprintf("%s-%05d", prefix, i) }

// childEndpoint is the ID of an endpoint and the path that it is at.
func childEndpoint(i int) string { return fmt.Sprintf("ep%d", i) }

// childPayload is the body of an event.
func childPayload(id string) string {
	return fmt.Sprintf(`{"type":"order_create","id":%q,"text":%q}`, id, strings.Repeat("x", 200))
}

// child is a process that a test started. It ends with the test, and when the test binary dies its standard input ends.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu     sync.Mutex
	more   *sync.Cond // a line came, or the last
	lines  []string
	ended  bool
	stderr bytes.Buffer // complete once the process is reaped
	reaped chan struct{}
	err    error
}

// startChild starts a child in a part. When it prints killOn, it is killed at once.
func startChild(t *testing.T, part, killOn string, cfg childConfig) *child {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, cmd: helper(t, part, "DBTEST_CHILD="+string(text)), reaped: make(chan struct{})}
	c.more = sync.NewCond(&c.mu)
	c.cmd.Stderr = &c.stderr
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.stdin, err = c.cmd.StdinPipe()
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go c.read(out, killOn)
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			text := c.stderr.String()
			t.Logf("%s %s said at its end:\n%s", part, cfg.Name, text[max(0, len(text)-2000):])
		}
	})
	return c
}

// read keeps what the child prints until it ends.
func (c *child) read(out io.Reader, killOn string) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if killOn != "" && lines.Text() == killOn {
			c.cmd.Process.Kill()
		}
		c.mu.Lock()
		c.lines = append(c.lines, lines.Text())
		c.more.Broadcast()
		c.mu.Unlock()
	}
	c.err = c.cmd.Wait()
	c.mu.Lock()
	c.ended = true
	c.more.Broadcast()
	c.mu.Unlock()
	close(c.reaped)
}

// count is how many lines begin with prefix.
func (c *child) count(prefix string) int { return len(c.said(prefix)) }

// said returns what follows prefix in the lines that begin with it.
func (c *child) said(prefix string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(prefix)
}

func (c *child) find(prefix string) []string {
	var rest []string
	for _, line := range c.lines {
		if s, ok := strings.CutPrefix(line, prefix); ok {
			rest = append(rest, s)
		}
	}
	return rest
}

// await waits until n lines begin with prefix, and returns what follows it in the last of them.
func (c *child) await(prefix string, n int, limit time.Duration) string {
	c.t.Helper()
	late := false
	timer := time.AfterFunc(limit, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		late = true
		c.more.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		found := c.find(prefix)
		if len(found) >= n {
			return found[n-1]
		}
		if c.ended || late {
			last := c.lines[max(0, len(c.lines)-3):]
			c.t.Fatalf("the child printed %q %d times, want %d (ended: %t, waited for %v); its last lines: %q",
				prefix, len(found), n, c.ended, limit, last)
		}
		c.more.Wait()
	}
}

// tell writes a line to the child.
func (c *child) tell(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.stdin, line+"\n"); err != nil {
		c.t.Fatalf("a child does not listen: %v", err)
	}
}

func (c *child) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatalf("signal %v: %v", s, err)
	}
}

// kill ends the child with SIGKILL, if it still runs, and reaps it.
func (c *child) kill() {
	c.cmd.Process.Kill()
	<-c.reaped
}

// stop asks the child to end, and expects that it drains and succeeds.
func (c *child) stop() {
	c.t.Helper()
	c.await("LISTENING", 1, time.Minute) // before it does, a signal ends it
	c.signal(syscall.SIGTERM)
	select {
	case <-c.reaped:
	case <-time.After(time.Minute):
		c.t.Fatal("a child did not end within a minute of SIGTERM")
	}
	if c.err != nil {
		c.t.Errorf("a child that was asked to end: %v, %q", c.err, c.said("ERROR: "))
	}
}

// What follows runs in child processes.

// say prints a line, in one write.
func say(format string, args ...any) { os.Stdout.WriteString(fmt.Sprintf(format, args...) + "\n") }

// beChild reads the child's configuration and opens its store. ctx ends on SIGTERM.
func beChild() (ctx context.Context, cfg childConfig, store *sqlstore.Store, db *sql.DB, err error) {
	ctx, _ = signal.NotifyContext(context.Background(), syscall.SIGTERM)
	say("LISTENING")
	if err = json.Unmarshal([]byte(os.Getenv("DBTEST_CHILD")), &cfg); err != nil {
		return ctx, cfg, nil, nil, err
	}
	if db, err = sql.Open(cfg.Driver, cfg.DSN); err != nil {
		return ctx, cfg, nil, nil, err
	}
	db.SetMaxOpenConns(12)
	db.SetMaxIdleConns(12)
	store, err = sqlstore.New(db, cfg.Dialect, nil)
	return ctx, cfg, store, db, err
}

// orders calls fn for each line that the test writes. When the test is gone, so is the process.
func orders(fn func(line string)) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fn(lines.Text())
	}
	os.Exit(3)
}

// options are a dispatcher's, for a child.
func (cfg *childConfig) options() *webhook.DispatcherOptions {
	o := &webhook.DispatcherOptions{
		MaxInFlight: cfg.MaxInFlight, Senders: cfg.Senders, LeaseMargin: cfg.Margin, AllowPrivate: true, Owner: cfg.Name, UserAgent: cfg.Name,
	}
	secret, err := webhook.IssuedSecret(childSecret)
	if err != nil {
		panic(err)
	}
	again := webhook.Schedule{Kind: "list", List: []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Second}}
	full := webhook.RefuseWhenFull
	if cfg.Oldest {
		full = webhook.ExpireOldest
	}
	add := func(id, tenant string) {
		o.Endpoints = append(o.Endpoints, webhook.Endpoint{ID: id, URL: cfg.URL + "/" + id, Secrets: []webhook.Secret{secret},
			Timeout: cfg.Timeout, Schedule: again, Rate: cfg.Rate, Tenant: tenant, MaxBacklog: cfg.Bound, WhenFull: full})
	}
	for i := range cfg.Endpoints {
		add(childEndpoint(i), "")
	}
	weights := map[string]int{}
	for _, tn := range cfg.Tenants {
		weights[tn.Name] = tn.Weight
		for i := range tn.Endpoints {
			add(fmt.Sprintf("%s_%s", childEndpoint(i), tn.Name), tn.Name)
		}
	}
	o.Tenants = func(name string) webhook.TenantPolicy { return webhook.TenantPolicy{Weight: weights[name]} }
	return o
}
