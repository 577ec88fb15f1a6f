package pgxwebhook

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// What needs a server is tested in internal/dbtest.

func newStore(t *testing.T, opts *sqlstore.Options) *sqlstore.Store {
	t.Helper()
	s, err := sqlstore.New(new(sql.DB), sqlstore.PostgreSQL, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type execer struct{}

func (execer) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, nil
}

func TestArguments(t *testing.T) {
	store, config := newStore(t, nil), &pgx.ConnConfig{}
	for field, make := range map[string]func() error{
		"store":  func() error { _, err := NewNotifier(nil, execer{}, nil); return err },
		"db":     func() error { _, err := NewNotifier(store, nil, nil); return err },
		"Every":  func() error { _, err := NewNotifier(store, execer{}, &NotifierOptions{Every: -1}); return err },
		"config": func() error { return Listen(t.Context(), nil, store, func() {}, nil) },
		"wake":   func() error { return Listen(t.Context(), config, store, nil, nil) },
	} {
		err := make()
		if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := Listen(t.Context(), config, nil, func() {}, nil); !errors.Is(err, webhook.ErrInvalid) {
		t.Errorf("a nil store: %v", err)
	}
}

func TestChannel(t *testing.T) {
	long := strings.Repeat("s", 60)
	seen := map[string]bool{}
	for _, opts := range []*sqlstore.Options{nil, {Prefix: "a_"}, {Schema: "x", Prefix: "a_"}, {Schema: long, Prefix: "a_"}, {Schema: long, Prefix: "b_"}} {
		c := channelOf(newStore(t, opts))
		if len(c) > maxChannel || seen[c] || c != channelOf(newStore(t, opts)) {
			t.Errorf("channel %q of %+v", c, opts)
		}
		seen[c] = true
	}
}

func TestIsWork(t *testing.T) {
	now := time.Now()
	delivery := func(d webhook.NewDelivery) []webhook.NewEvent {
		return []webhook.NewEvent{{Deliveries: []webhook.NewDelivery{d}}}
	}
	for _, c := range []struct {
		name   string
		events []webhook.NewEvent
		status webhook.EnqueueStatus
		want   bool
	}{
		{"due", delivery(webhook.NewDelivery{}), webhook.Stored, true},
		{"due since", delivery(webhook.NewDelivery{DueAt: now.Add(-time.Second)}), webhook.Stored, true},
		{"due later", delivery(webhook.NewDelivery{DueAt: now.Add(time.Second)}), webhook.Stored, false},
		{"taken by the sender itself", delivery(webhook.NewDelivery{Lease: time.Second}), webhook.Stored, false},
		{"a repeat", delivery(webhook.NewDelivery{}), webhook.Repeat, false},
		{"for nobody", []webhook.NewEvent{{}}, webhook.Stored, false},
	} {
		req := &webhook.EnqueueRequest{Now: now, Events: c.events}
		if got := isWork(req, &webhook.EnqueueResult{Events: []webhook.EnqueueStatus{c.status}}); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// A listener whose server is away tries again until its context ends, and then says nothing.
func TestListenWithoutAServer(t *testing.T) {
	config, err := pgx.ParseConfig("host=" + t.TempDir() + " user=nobody dbname=none sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	woken := false
	if err := Listen(ctx, config, newStore(t, nil), func() { woken = true }, nil); err != nil || woken {
		t.Errorf("%v, woken: %t", err, woken)
	}
}
