package main

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// handLoop is the queue that one writes by hand: a table, goroutines that each take a row with SKIP LOCKED, post, mark it and
// commit, and a poll when there is none. The transaction is open while the endpoint answers.
type handLoop struct {
	db     *sql.DB
	post   *poster
	url    string
	done   atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
	errs   chan error
}

const (
	handWorkers = 64
	handPoll    = 50 * time.Millisecond
)

const handTables = `
CREATE TABLE hand (id bigserial PRIMARY KEY, body bytea NOT NULL, state smallint NOT NULL DEFAULT 0, done_at timestamptz);
CREATE INDEX hand_waiting ON hand (id) WHERE state = 0`

func openHandLoop(server *pgServer) (e *entry, stop func() error, err error) {
	const idle = handWorkers + singleSenders
	db, err := server.database("hand")
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxIdleConns(idle)
	if _, err := db.Exec(handTables); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return &entry{name: handRow, gauges: server.gauges("hand", flushIdle(db, idle)), contender: &handLoop{db: db}}, db.Close, nil
}

func (h *handLoop) open(url string) error {
	h.url, h.post = url+"/0", newPoster(handWorkers)
	h.done.Store(0)
	return nil
}

func (h *handLoop) send(number int) error {
	_, err := h.db.Exec("INSERT INTO hand (body) VALUES ($1)", makePayload(number))
	return err
}

func (h *handLoop) fill(first, n int) error {
	const each = 500
	for i := 0; i < n; i += each {
		bodies := make([][]byte, min(each, n-i))
		for j := range bodies {
			bodies[j] = makePayload(first + i + j)
		}
		if _, err := h.db.Exec("INSERT INTO hand (body) SELECT unnest($1::bytea[])", bodies); err != nil {
			return err
		}
	}
	return nil
}

func (h *handLoop) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.errs = cancel, make(chan error, handWorkers)
	for range handWorkers {
		h.wg.Go(func() {
			for ctx.Err() == nil {
				found, err := h.one()
				if err != nil {
					h.errs <- err
					return
				}
				if !found {
					select {
					case <-ctx.Done():
					case <-time.After(handPoll):
					}
				}
			}
		})
	}
	return nil
}

// one takes, posts and marks a row.
func (h *handLoop) one() (found bool, err error) {
	tx, err := h.db.Begin()
	if err != nil {
		return false, err
	}
	defer tx.Rollback()
	var id int64
	var body []byte
	err = tx.QueryRow("SELECT id, body FROM hand WHERE state = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED").Scan(&id, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		err = h.post.post(h.url, body)
	}
	if err == nil {
		_, err = tx.Exec("UPDATE hand SET state = 1, done_at = now() WHERE id = $1", id)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err == nil {
		h.done.Add(1)
	}
	return true, err
}

func (h *handLoop) await(n int) error { return awaitCount(&h.done, int64(n)) }

func (h *handLoop) close() error {
	defer h.post.close()
	if h.cancel == nil {
		return nil
	}
	h.cancel()
	h.cancel = nil
	h.wg.Wait()
	close(h.errs)
	var texts []string
	for err := range h.errs {
		texts = append(texts, err.Error())
	}
	if len(texts) > 0 {
		return errors.New(strings.Join(texts, "; "))
	}
	return nil
}
