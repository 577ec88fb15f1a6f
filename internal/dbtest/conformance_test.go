package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/signalpost/webhook/sqlstore"
	"github.com/signalpost/webhook/storetest"
)

// TestConformance runs the whole suite on every database, through every driver and each way in which it sends statements;
// with -short, each database once. On servers the stores of all cases share a database, each with tables of its own.
func TestConformance(t *testing.T) {
	conform(t, mainVariants)
}

// TestConformanceOfDrivers does so for all other ways of talking to the databases. It takes minutes under the race detector, which has
// nothing to find in them that it does not find in the main ones: the gate and `make test` run it without.
func TestConformanceOfDrivers(t *testing.T) {
	switch {
	case raceDetector:
		t.Skip("runs by itself, without the race detector")
	case testing.Short():
		t.Skip("short")
	}
	conform(t, allVariants[len(mainVariants):])
}

func conform(t *testing.T, variants []variant) {
	t.Helper()
	eachAtOnce(t, variants, func(t *testing.T, v variant) {
		if v.dialect == sqlstore.SQLite {
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				d := v.database(t)
				return v.harness(t, v.pool(t, d), v.pool(t, d), "")
			})
			return
		}
		d := v.database(t)
		first, second := v.pool(t, d), v.pool(t, d)
		cases := 0
		storetest.Run(t, func(t *testing.T) storetest.Harness {
			cases++
			return v.harness(t, first, second, fmt.Sprintf("c%d_", cases))
		})
	})
}

// harness is an empty store with two handles.
func (v variant) harness(t *testing.T, db, db2 *sql.DB, prefix string) storetest.Harness {
	t.Helper()
	var handles [2]*sqlstore.Store
	for i, db := range []*sql.DB{db, db2} {
		var err error
		if handles[i], err = sqlstore.New(db, v.dialect, &sqlstore.Options{Prefix: prefix}); err != nil {
			t.Fatal(err)
		}
	}
	migrate(t, handles[0])
	h := storetest.Harness{
		Store:  handles[0],
		Second: handles[1],
		Begin: func(ctx context.Context) (storetest.Tx, error) {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return storetest.Tx{}, err
			}
			return storetest.Tx{Enqueuer: handles[0].Tx(tx), Commit: tx.Commit, Rollback: tx.Rollback}, nil
		},
	}
	if v.dialect == sqlstore.SQLite {
		h.Without = append(h.Without, "OpenTx") // one writer
	}
	return h
}
