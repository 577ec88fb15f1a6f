package dbtest

import (
	"context"
	"testing"

	"github.com/signalpost/webhook/sqlstore"
	"github.com/signalpost/webhook/storetest"
)

// TestConformance runs the whole suite on every database, through every driver and each way in which it sends statements.
func TestConformance(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		storetest.Run(t, v.harness)
	})
}

// harness is a fresh database with two handles.
func (v variant) harness(t *testing.T) storetest.Harness {
	d := v.database(t)
	first, db := v.handle(t, d)
	second, _ := v.handle(t, d)
	migrate(t, first)
	h := storetest.Harness{
		Store:  first,
		Second: second,
		Begin: func(ctx context.Context) (storetest.Tx, error) {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return storetest.Tx{}, err
			}
			return storetest.Tx{Enqueuer: first.Tx(tx), Commit: tx.Commit, Rollback: tx.Rollback}, nil
		},
	}
	if v.dialect == sqlstore.SQLite {
		h.Without = []string{"OpenTx"} // one writer
	}
	return h
}
