package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// The points at which a process with HandleTx is killed.
const (
	beforeBegin  = "begin"  // the request is read, no transaction has begun
	inHandler    = "write"  // the handler has written
	aroundCommit = "return" // the handler has returned; the commit may be over or not
	beforeAnswer = "answer" // the commit is over, no answer has gone out
)

// newWork writes to the table of what handlers do: no constraint keeps two rows of one event out.
const newWork = "CREATE TABLE work (id VARCHAR(255) NOT NULL)"

// handleTxPart receives with HandleTx. It prints "url URL", and "ran KEY" each time that its handler runs.
func handleTxPart() error {
	_, cfg, store, _, err := beChild()
	if err != nil {
		return err
	}
	verifier, err := childVerifier()
	if err != nil {
		return err
	}
	stop := &point{name: cfg.Point, after: int64(cfg.After)}
	opts := &sqlstore.HandleTxOptions{Receive: webhook.ReceiveOptions{Logger: slog.New(slog.DiscardHandler)}}
	opts.Receive.Key = func(m *webhook.Message) (webhook.Key, error) {
		stop.stop(beforeBegin)
		return webhook.DefaultKey(m)
	}
	handler := store.HandleTx(verifier, func(ctx context.Context, tx *sql.Tx, ev webhook.Event) error {
		_, key, err := webhook.KeyFromContext(ctx)
		if err != nil {
			return err
		}
		say("ran %s", key.ID)
		if _, err := tx.ExecContext(ctx, "INSERT INTO work (id) VALUES ('"+key.ID+"')"); err != nil {
			return err
		}
		stop.stop(inHandler)
		time.Sleep(cfg.Timeout) // work, during which twins come
		if stop.here(aroundCommit) {
			go func() {
				time.Sleep(rand.N(400 * time.Microsecond)) // and the kill comes a moment later
				stop.say()
			}()
		}
		stop.acked.Add(1)
		return nil
	}, opts)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go orders(func(string) {})
	say("url http://%s", ln.Addr())
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(&stoppingWriter{w, stop}, r)
	}))
}

func childVerifier() (*webhook.Verifier, error) {
	secret, err := webhook.IssuedSecret(childSecret)
	if err != nil {
		return nil, err
	}
	return webhook.NewVerifier(secret)
}

// stoppingWriter stops before the answer.
type stoppingWriter struct {
	http.ResponseWriter
	stop *point
}

func (w *stoppingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *stoppingWriter) WriteHeader(status int) {
	if status == http.StatusOK {
		w.stop.stop(beforeAnswer)
	}
	w.ResponseWriter.WriteHeader(status)
}

// rows counts what is done: rows of the handlers, and keys recorded as done or in any other state.
func (c *childDB) rows(t *testing.T) (work, done, other int) {
	t.Helper()
	c.scan(t, "SELECT count(*) FROM work", &work)
	c.scan(t, "SELECT count(*) FROM webhook_dedupe WHERE state = 1", &done)
	c.scan(t, "SELECT count(*) FROM webhook_dedupe WHERE state <> 1", &other)
	return work, done, other
}

// TestHandleTxKilled kills a process at each point, and sends again to the next: what the handler writes and the key are there both or not.
func TestHandleTxKilled(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.durable(t))
		must(t, c.db, newWork)
		n, committed := 0, 0
		for _, at := range []string{beforeBegin, inHandler, beforeAnswer, aroundCommit, aroundCommit, aroundCommit, aroundCommit, aroundCommit, aroundCommit} {
			n++
			r := signedUpdate(t, "o1", fmt.Sprint("status ", n))
			cfg := c.config()
			cfg.Name, cfg.Point = "killed", at
			victim := startChild(t, "handletx", "at "+at, cfg)
			a := c.post(t.Context(), victim.await("url ", 1, time.Minute), r)
			<-victim.reaped
			c.alone(t)
			work, done, other := c.rows(t)
			if work != done || other != 0 {
				t.Errorf("killed at %s: %d rows of work, %d keys done, %d others; want as many of each, and none", at, work, done, other)
			}
			isDone := done == n
			switch {
			case a.err == nil && a.status == http.StatusOK && !isDone:
				t.Errorf("killed at %s: answered 200, and nothing is done", at)
			case at == beforeBegin && isDone, at == inHandler && isDone, at == beforeAnswer && !isDone:
				t.Errorf("killed at %s: done is %t", at, isDone)
			}
			if at == aroundCommit && isDone {
				committed++
			}
			cfg.Point = ""
			next := startChild(t, "handletx", "", cfg)
			again := c.post(t.Context(), next.await("url ", 1, time.Minute), r)
			if again.err != nil || again.status != http.StatusOK || again.recorded != 1 || again.replayed != isDone {
				t.Errorf("killed at %s: the retry is %+v, want 200, replayed: %t", at, again, isDone)
			}
			next.kill()
			if work, done, other := c.rows(t); work != n || done != n || other != 0 {
				t.Errorf("killed at %s, after the retry: %d rows of work, %d keys done, %d others; want %d, %d, 0", at, work, done, other, n, n)
			}
		}
		t.Logf("%s: of 6 kills around the commit %d came after it", v.name, committed)
	})
}

// TestHandleTxKilledAnywhere kills processes under load at any moment, until all is done: each event once.
func TestHandleTxKilledAnywhere(t *testing.T) {
	const events = 300
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.durable(t))
		must(t, c.db, newWork)
		requests := make([]*signedRequest, events)
		for i := range requests {
			requests[i] = signedUpdate(t, "o1", fmt.Sprint("status ", i))
		}
		cfg := c.config()
		var next atomic.Int64
		kills, ok := 0, make([]atomic.Bool, events)
		for left := true; left; kills++ {
			victim := startChild(t, "handletx", "", cfg)
			url := victim.await("url ", 1, time.Minute)
			if kills < 8 {
				go func() {
					for end := time.Now().Add(time.Minute); victim.count("ran ") < 10 && time.Now().Before(end); {
						time.Sleep(rand.N(2 * time.Millisecond))
					}
					victim.kill()
				}()
			}
			next.Store(0)
			together(8, func(int) {
				for i := next.Add(1) - 1; i < events; i = next.Add(1) - 1 {
					if a := c.send(t.Context(), url, requests[i]); a.err == nil && a.status == http.StatusOK {
						ok[i].Store(true)
					}
				}
			})
			victim.kill()
			c.alone(t)
			if work, done, other := c.rows(t); work != done || other != 0 {
				t.Fatalf("after kill %d: %d rows of work, %d keys done, %d others", kills, work, done, other)
			}
			left = false
			for i := range ok {
				left = left || !ok[i].Load()
			}
			if !left && kills < 8 {
				t.Errorf("all was done after %d kills, want 8 of them in the middle of it", kills)
			}
			if kills > 20 {
				t.Fatal("it does not end")
			}
		}
		var twice int
		c.scan(t, "SELECT count(*) FROM (SELECT id FROM work GROUP BY id HAVING count(*) > 1) d", &twice)
		if work, done, _ := c.rows(t); work != events || done != events || twice != 0 {
			t.Errorf("%d rows of work, %d keys done, %d events twice; want %d, %d, 0", work, done, twice, events, events)
		}
	})
}

// TestProcessesHandleTxOnce gives two processes 50 equal requests at once.
func TestProcessesHandleTxOnce(t *testing.T) {
	eachAtOnce(t, mainVariants, func(t *testing.T, v variant) {
		c := openChildDB(t, v, v.database(t))
		must(t, c.db, newWork)
		cfg := c.config()
		cfg.Timeout = 50 * time.Millisecond
		first, second := startChild(t, "handletx", "", cfg), startChild(t, "handletx", "", cfg)
		urls := []string{first.await("url ", 1, time.Minute), second.await("url ", 1, time.Minute)}
		r := signedUpdate(t, "o1", "confirmed")
		answers := make([]answer, 50)
		together(len(answers), func(i int) { answers[i] = c.post(t.Context(), urls[i%2], r) })
		once, replayed, later := 0, 0, 0
		for _, a := range answers {
			switch {
			case a.err != nil:
				t.Errorf("a request failed: %v", a.err)
			case a.status == http.StatusOK && a.recorded == 1 && a.replayed:
				replayed++
			case a.status == http.StatusOK && a.recorded == 1:
				once++
			case a.status == http.StatusConflict, a.status == http.StatusServiceUnavailable:
				later++
			default:
				t.Errorf("unexpected answer: %+v", a)
			}
		}
		ran := first.count("ran ") + second.count("ran ")
		work, done, other := c.rows(t)
		if once != 1 || ran != 1 || work != 1 || done != 1 || other != 0 || replayed == 0 {
			t.Errorf("%d answered by the handler, %d from memory; %d runs, %d rows, %d keys done, %d others", once, replayed, ran, work, done, other)
		}
		t.Logf("%s: 50 equal requests over 2 processes: %d run, %d answered from memory, %d to come again", v.name, ran, replayed, later)
	})
}
