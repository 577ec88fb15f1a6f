package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/pgxwebhook"
	"github.com/signalpost/webhook/sqlstore"
	"github.com/signalpost/webhook/storetest"
)

// pgxModes are the ways in which pgx sends statements.
var pgxModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// pgxPool is a pool of pgx itself.
func pgxPool(t testing.TB, dsn string, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DefaultQueryExecMode = mode
	config.MaxConns = 16
	config.AfterConnect = ownTypes
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// ownTypes gives a connection codecs as an application may have them, which know no Go values but those that they are asked for.
func ownTypes(_ context.Context, conn *pgx.Conn) error {
	for _, oid := range []uint32{pgtype.TextOID, pgtype.Int8OID, pgtype.Int2OID, pgtype.ByteaOID, pgtype.BoolOID} {
		typ, ok := conn.TypeMap().TypeForOID(oid)
		if !ok {
			return fmt.Errorf("no type %d", oid)
		}
		conn.TypeMap().RegisterType(&pgtype.Type{Name: typ.Name, OID: oid, Codec: ownCodec{typ.Codec}})
	}
	return nil
}

type ownCodec struct{ pgtype.Codec }

func (ownCodec) DecodeValue(*pgtype.Map, uint32, int16, []byte) (any, error) {
	return nil, errors.New("the application's own")
}

// harnessTx is a transaction of pgx as storetest wants it.
func harnessTx(ctx context.Context, store *sqlstore.Store, pool *pgxpool.Pool, opts pgx.TxOptions, notify bool) (storetest.Tx, error) {
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return storetest.Tx{}, err
	}
	enqueuer := pgxwebhook.Tx(store, tx)
	if notify {
		enqueuer = pgxwebhook.NotifyTx(store, tx)
	}
	return storetest.Tx{
		Enqueuer: enqueuer,
		Commit:   func() error { return tx.Commit(context.Background()) },
		Rollback: func() error { return tx.Rollback(context.Background()) },
	}, nil
}

// TestConformancePgxTx runs the cases about a caller's transaction in native ones, in every mode of pgx.
func TestConformancePgxTx(t *testing.T) {
	v := variant{"postgres", sqlstore.PostgreSQL, "pgx", nil}
	for i, mode := range pgxModes {
		t.Run(mode.String(), func(t *testing.T) {
			d := v.database(t)
			pool, first, second := pgxPool(t, d.DSN, mode), v.pool(t, d), v.pool(t, d)
			n := 0
			for _, c := range storetest.Cases() {
				if !strings.HasPrefix(c.Name, "Tx/") && !strings.HasSuffix(c.Name, "/InTx") && (c.Name != "Random/Small" || i > 0) {
					continue
				}
				n++
				t.Run(c.Name, func(t *testing.T) {
					h := v.harness(t, first, second, fmt.Sprintf("m%d_c%d_", i, n))
					h.Begin = func(ctx context.Context) (storetest.Tx, error) {
						return harnessTx(ctx, h.Store.(*sqlstore.Store), pool, pgx.TxOptions{}, i%2 == 1)
					}
					if err := c.Check(func() storetest.Harness { return h }); err != nil {
						t.Error(err)
					}
				})
			}
			if n < 8 {
				t.Errorf("only %d cases ran", n)
			}
		})
	}
}

// TestPgxTxLeftOpenDelaysNobody is TestSendTxLeftOpenDelaysNobody with native transactions, which hint besides.
func TestPgxTxLeftOpenDelaysNobody(t *testing.T) {
	v := variant{"postgres", sqlstore.PostgreSQL, "pgx", nil}
	for _, level := range []pgx.TxIsoLevel{"", pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			leaveSendTxOpen(t, v, func(s *sqlstore.Store, _ *sql.DB, d DB) storetest.Tx {
				tx, err := harnessTx(t.Context(), s, pgxPool(t, d.DSN, pgx.QueryExecModeCacheStatement), pgx.TxOptions{IsoLevel: level}, true)
				if err != nil {
					t.Fatal(err)
				}
				return tx
			})
		})
	}
}

// TestPgxSendTx sends in transactions of a connection, of a pool and nested in another; what is rolled back, to a savepoint too, is not there. It
// uses no connection of the store.
func TestPgxSendTx(t *testing.T) {
	d := Postgres(t).NewDB(t)
	db := d.Open(t)
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, nil)
	if err != nil {
		t.Fatal(err)
	}
	migrate(t, store)
	put(t, store, webhook.Endpoint{ID: "acme", URL: "https://acme.example", Secrets: []webhook.Secret{secret(t, "whsec_current")}})
	db.SetMaxOpenConns(1)
	busy, err := db.Conn(t.Context()) // the only one
	if err != nil {
		t.Fatal(err)
	}
	hooks, err := webhook.NewDispatcher(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	pool := pgxPool(t, d.DSN, pgx.QueryExecModeCacheStatement)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	send := func(tx pgx.Tx, id string, payload string) error {
		_, err := hooks.SendTx(ctx, pgxwebhook.Tx(store, tx), webhook.Event{ID: id, Type: "x", Payload: []byte(payload)})
		return err
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tx, err := pool.Begin(ctx)
	ok(err)
	ok(send(tx, "pool", "1"))
	inner, err := tx.Begin(ctx)
	ok(err)
	ok(send(inner, "savepoint-kept", "1"))
	ok(inner.Commit(ctx))
	inner, err = tx.Begin(ctx)
	ok(err)
	ok(send(inner, "savepoint-lost", "1"))
	if err := send(inner, "pool", "other content"); !errors.Is(err, webhook.ErrEventConflict) {
		t.Errorf("another content: %v", err)
	}
	_, err = inner.Exec(ctx, "SELECT 1/0") // PostgreSQL gives the savepoint up
	if err == nil {
		t.Error("1/0 did not fail")
	}
	if err := send(inner, "aborted", "1"); err == nil {
		t.Error("a send in an aborted transaction did not fail")
	}
	ok(inner.Rollback(ctx))
	ok(send(tx, "pool", "1")) // a repeat
	ok(tx.Commit(ctx))
	if err := send(tx, "committed", "1"); !errors.Is(err, pgx.ErrTxClosed) {
		t.Errorf("a send after the commit: %v", err)
	}

	conn, err := pgx.Connect(ctx, d.DSN)
	ok(err)
	defer conn.Close(ctx)
	tx, err = conn.Begin(ctx)
	ok(err)
	ok(send(tx, "conn", "1"))
	ok(tx.Commit(ctx))
	tx, err = conn.Begin(ctx)
	ok(err)
	ok(send(tx, "rolled-back", "1"))
	ok(tx.Rollback(ctx))
	ended, end := context.WithCancel(ctx)
	tx, err = pool.Begin(ctx)
	ok(err)
	end()
	if _, err := pgxwebhook.Tx(store, tx).Enqueue(ended, &webhook.EnqueueRequest{Now: at(0), Events: []webhook.NewEvent{newEvent("canceled", "acme", "")}}); !errors.Is(err, context.Canceled) {
		t.Errorf("a send whose context has ended: %v", err)
	}
	_ = tx.Rollback(ctx)
	if _, err := hooks.SendTx(ctx, pgxwebhook.Tx(store, nil), webhook.Event{Type: "x"}); err == nil {
		t.Error("no transaction: no error")
	}

	ok(busy.Close())
	for id, there := range map[string]bool{"pool": true, "savepoint-kept": true, "conn": true, "savepoint-lost": false, "aborted": false,
		"rolled-back": false, "canceled": false} {
		if _, err := store.GetEvent(t.Context(), id); (err == nil) != there {
			t.Errorf("event %s: %v, want it there: %t", id, err, there)
		}
	}
}

// quiet logs nothing.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
