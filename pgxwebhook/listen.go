package pgxwebhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/signalpost/webhook/sqlstore"
)

// What a listener waits for, each at most so long.
const (
	listenQuiet   = 30 * time.Second // without a hint, before it asks whether the server is still there
	listenAnswer  = 10 * time.Second // for an answer of the server
	listenFirst   = 50 * time.Millisecond
	listenLongest = 5 * time.Second // between two tries to connect
)

// ListenOptions are the optional arguments of [Listen].
type ListenOptions struct {
	Logger *slog.Logger // nil: slog.Default()

	// Connected is called each time when it listens, before wake. Nil: nothing.
	Connected func()
}

// Listen calls wake, which is the dispatcher's Wake, for each hint about a store ([NotifyTx], [Notifier]), until ctx ends; a dispatcher makes
// one look for work of the hints that come while it looks. It holds one connection to the server, which config must reach without a pooler that pools transactions. A lost connection is made
// again, after 50 ms at first and 5 s at most, and wake is called then too, for what was missed; meanwhile the dispatcher polls. wake must
// not block. It returns nil when ctx has ended; an error is a [*webhook.FieldError] about its arguments. opts may be nil.
func Listen(ctx context.Context, config *pgx.ConnConfig, store *sqlstore.Store, wake func(), opts *ListenOptions) error {
	l := listener{wake: wake}
	if opts != nil {
		l.ListenOptions = *opts
	}
	switch {
	case config == nil:
		return fieldError("config", "is nil")
	case store == nil:
		return fieldError("store", "is nil")
	case wake == nil:
		return fieldError("wake", "is nil")
	}
	if l.Logger == nil {
		l.Logger = slog.Default()
	}
	l.config, l.channel = config.Copy(), channelOf(store)
	if l.config.ConnectTimeout == 0 {
		l.config.ConnectTimeout = listenAnswer
	}
	pause := listenFirst
	for {
		began := time.Now()
		err := l.listen(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > listenQuiet {
			pause = listenFirst
		}
		level := slog.LevelWarn
		if l.told && !l.listened {
			level = slog.LevelDebug // it has been said since it listened last
		}
		l.told, l.listened = true, false
		l.Logger.Log(ctx, level, "webhook: listening for hints ended; trying again, and polling meanwhile", slog.Any("error", err))
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, listenLongest)
	}
}

// listener is one Listen.
type listener struct {
	ListenOptions
	config  *pgx.ConnConfig
	channel string
	wake    func()

	told     bool // of a failure
	listened bool // since then
}

// listen listens on a connection of its own until that ends.
func (l *listener) listen(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, l.config)
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ending)
	}()
	if err := l.begin(ctx, conn); err != nil {
		return err
	}
	l.listened = true
	if l.Connected != nil {
		l.Connected()
	}
	l.wake()
	for {
		quiet, cancel := context.WithTimeout(ctx, listenQuiet)
		_, err := conn.WaitForNotification(quiet)
		cancel()
		switch {
		case err == nil:
			l.wake()
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed():
			if err := l.ask(ctx, conn); err != nil {
				return err
			}
		default:
			return err
		}
	}
}

// begin listens, and warns where hints are likely to go to somebody else.
func (l *listener) begin(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, listenAnswer)
	defer cancel()
	if _, err := conn.Exec(ctx, "LISTEN "+pgx.Identifier{l.channel}.Sanitize()); err != nil {
		return err
	}
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
		return err
	}
	if pid != conn.PgConn().PID() {
		l.Logger.Warn("webhook: listening through a pooler: hints arrive only if it pools sessions; give Listen a connection to the server")
	}
	return nil
}

// ask finds out whether the server is still there: a connection that broke without a word says nothing, like one without hints.
func (l *listener) ask(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, listenAnswer)
	defer cancel()
	if err := conn.Ping(ctx); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return nil
}
