package pgxwebhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// maxChannel is what PostgreSQL allows the name of a channel, in bytes.
const maxChannel = 63

// channelOf is the channel of a store's hints: its own among those in one database.
func channelOf(store *sqlstore.Store) string {
	name := "webhook:" + store.Tables()
	if len(name) <= maxChannel {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "webhook:" + hex.EncodeToString(sum[:16])
}

// Execer is what [github.com/jackc/pgx/v5/pgxpool.Pool], [github.com/jackc/pgx/v5.Conn] and [github.com/jackc/pgx/v5.Tx] have in common.
type Execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

func notify(ctx context.Context, db Execer, channel string) error {
	if _, err := db.Exec(ctx, `SELECT pg_notify($1, '')`, channel); err != nil {
		return fmt.Errorf("webhook: pgxwebhook: notify: %w", err)
	}
	return nil
}

// NotifierOptions are the optional arguments of [NewNotifier].
type NotifierOptions struct {
	// Every is the least time between two hints: those asked for meanwhile are one, at its end. Zero: 5 ms.
	Every time.Duration

	Logger *slog.Logger // nil: slog.Default()
}

// Notifier sends hints after commits, many as one: for processes that send much. It may be used by any number of goroutines.
type Notifier struct {
	store   *sqlstore.Store
	db      Execer
	channel string
	every   time.Duration
	log     *slog.Logger
	asked   chan struct{}
}

// NewNotifier makes a Notifier of hints about a store. It starts nothing: see Run. db is a pool, which may go through PgBouncer. opts may be nil. The
// error is a [*webhook.FieldError].
func NewNotifier(store *sqlstore.Store, db Execer, opts *NotifierOptions) (*Notifier, error) {
	var o NotifierOptions
	if opts != nil {
		o = *opts
	}
	switch {
	case store == nil:
		return nil, fieldError("store", "is nil")
	case db == nil:
		return nil, fieldError("db", "is nil")
	case o.Every < 0:
		return nil, fieldError("Every", fmt.Sprintf("is %v, want 0 (default 5ms) or more", o.Every))
	}
	if o.Every == 0 {
		o.Every = 5 * time.Millisecond
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Notifier{store: store, db: db, channel: channelOf(store), every: o.Every, log: o.Logger, asked: make(chan struct{}, 1)}, nil
}

func fieldError(field, reason string) error {
	return &webhook.FieldError{Op: "pgxwebhook", Field: field, Reason: reason}
}

// Notify asks for a hint: call it after committing a transaction that SendTx was part of. It never blocks, and does nothing while Run does not run.
func (n *Notifier) Notify() {
	select {
	case n.asked <- struct{}{}:
	default:
	}
}

// Run sends what Notify asks for, until ctx ends; one Run at a time. A hint that fails is not sent again: a poll takes its place.
func (n *Notifier) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.asked:
		}
		err := notify(ctx, n.db, n.channel)
		if err != nil && ctx.Err() == nil && !failing {
			n.log.Warn("webhook: hints to other processes fail; they poll", slog.Any("error", err))
		}
		failing = err != nil
		timer.Reset(n.every)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
	}
}

// Store is the notifier's store that asks for a hint after each commit of its own that others have to send: make the dispatcher of a process that only
// sends on it. A process that also runs its dispatcher needs none for what it sends.
func (n *Notifier) Store() *NotifyingStore { return &NotifyingStore{n.store, n} }

// NotifyingStore is a sqlstore.Store that hints: see [Notifier.Store]. Transactions of the caller's do not: call Notify after their commit.
type NotifyingStore struct {
	*sqlstore.Store
	notifier *Notifier
}

// Enqueue is [sqlstore.Store.Enqueue].
func (s *NotifyingStore) Enqueue(ctx context.Context, req *webhook.EnqueueRequest) (*webhook.EnqueueResult, error) {
	res, err := s.Store.Enqueue(ctx, req)
	if err == nil && isWork(req, res) {
		s.notifier.Notify()
	}
	return res, err
}
