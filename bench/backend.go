package main

import (
	"database/sql"
	"time"

	"github.com/signalpost/webhook/memstore"
)

// backend is a store to be measured, and what its database can tell about itself.
type backend struct {
	name  string
	store *counted
	db    *sql.DB // nil: no database
	stop  func() error

	cpu func() time.Duration  // of the database's processes; nil: there are none
	wal func() (int64, error) // bytes of log written so far; nil: not known
	txs func() (int64, error) // transactions committed so far, by the database's own count; nil: not known
}

func openMemory() *backend {
	return &backend{name: "memory", store: &counted{fullStore: memstore.New()}, stop: func() error { return nil }}
}
