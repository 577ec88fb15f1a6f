package main

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// riverWorkers is how many jobs a River client works on at once, here and in every table.
const riverWorkers = 500

// riverPeer is River with a worker that posts.
type riverPeer struct {
	cooldown time.Duration // zero: River's default of 100 ms
	pool     *pgxpool.Pool
	client   *river.Client[pgx.Tx]
	post     *poster
	url      string
	worked   atomic.Int64
	running  bool
}

// riverArgs has the body as a string: in jsonb its bytes would not stay what was signed.
type riverArgs struct {
	Body string `json:"body"`
}

func (riverArgs) Kind() string { return "webhook" }

type riverWorker struct {
	river.WorkerDefaults[riverArgs]
	peer *riverPeer
}

func (w *riverWorker) Work(_ context.Context, job *river.Job[riverArgs]) error {
	if err := w.peer.post.post(w.peer.url, []byte(job.Args.Body)); err != nil {
		return err
	}
	w.peer.worked.Add(1)
	return nil
}

// newRiver has a database of its own on the server.
func newRiver(server *pgServer, database string, cooldown time.Duration) (*riverPeer, error) {
	if _, err := server.admin.Exec("CREATE DATABASE " + database); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(server.dsn(database))
	if err != nil {
		return nil, err
	}
	config.MaxConns = 24 // 16 that insert, and its own
	r := &riverPeer{cooldown: cooldown}
	if r.pool, err = pgxpool.NewWithConfig(context.Background(), config); err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(r.pool), &rivermigrate.Config{Logger: slog.Default()})
	if err == nil {
		_, err = migrator.Migrate(context.Background(), rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		r.pool.Close()
		return nil, err
	}
	return r, nil
}

func (r *riverPeer) open(url string) (err error) {
	r.url = url + "/0"
	r.post = newPoster(riverWorkers)
	r.worked.Store(0)
	workers := river.NewWorkers()
	if err := river.AddWorkerSafely(workers, &riverWorker{peer: r}); err != nil {
		return err
	}
	r.client, err = river.NewClient(riverpgxv5.New(r.pool), &river.Config{
		FetchCooldown: r.cooldown, Logger: slog.Default(), Workers: workers,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}},
	})
	return err
}

func (r *riverPeer) send(number int) error {
	_, err := r.client.Insert(context.Background(), riverArgs{string(makePayload(number))}, nil)
	return err
}

func (r *riverPeer) fill(first, n int) error {
	const each = 1000
	for i := 0; i < n; i += each {
		var jobs []river.InsertManyParams
		for j := range min(each, n-i) {
			jobs = append(jobs, river.InsertManyParams{Args: riverArgs{string(makePayload(first + i + j))}})
		}
		if _, err := r.client.InsertManyFast(context.Background(), jobs); err != nil {
			return err
		}
	}
	return nil
}

func (r *riverPeer) run() error {
	r.running = true
	return r.client.Start(context.Background())
}

func (r *riverPeer) await(n int) error {
	if err := awaitCount(&r.worked, int64(n)); err != nil {
		return err
	}
	return awaitTrue(func() (done bool, err error) {
		err = r.pool.QueryRow(context.Background(),
			"SELECT NOT EXISTS (SELECT FROM river_job WHERE state IN ('available', 'running', 'retryable'))").Scan(&done)
		return done, err
	})
}

func (r *riverPeer) close() error {
	defer r.post.close()
	if !r.running {
		return nil
	}
	r.running = false
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return r.client.Stop(ctx)
}

func (r *riverPeer) flush() {
	r.pool.Reset()
	time.Sleep(flushTime)
}

// openRiver makes River's entry.
func openRiver(server *pgServer, name, database string, cooldown time.Duration) (e *entry, stop func() error, err error) {
	r, err := newRiver(server, database, cooldown)
	if err != nil {
		return nil, nil, errors.Join(errors.New(name), err)
	}
	stop = func() error { r.pool.Close(); return nil }
	return &entry{name: name, gauges: server.gauges(database, r.flush), contender: r}, stop, nil
}
