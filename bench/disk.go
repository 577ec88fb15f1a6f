package main

import (
	"fmt"

	"github.com/signalpost/webhook/sqlstore"
)

// diskQueries tell how many bytes the tables and their indexes take, with the space in them that waits to be used again.
var diskQueries = map[sqlstore.Dialect]string{
	sqlstore.SQLite:     "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
	sqlstore.PostgreSQL: "SELECT pg_database_size(current_database())",
	sqlstore.MySQL:      "SELECT SUM(FILE_SIZE) FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME LIKE '%webhook%'",
}

// measureDisk measures what a delivery takes of a database's disk, for docs/operations.md: an event of 1 KiB to one endpoint.
func measureDisk(o *options) ([]*table, error) {
	backends, stop, err := openBackends(o.stores)
	if err != nil {
		return nil, err
	}
	defer stop()
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	t := newTable(fmt.Sprintf("Bytes a delivery, of %d with 1 KiB: on disk, and of log", o.n))
	for i, e := range oursOn(o, backends...) {
		if diskQueries[backends[i].dialect] == "" || backends[i].db == nil {
			continue
		}
		if err := diskOf(o, e, r, t); err != nil {
			return []*table{t}, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return []*table{t}, nil
}

func diskOf(o *options, e *entry, r *receiver, t *table) error {
	if err := e.open(r.url); err != nil {
		return err
	}
	defer e.close()
	d := &disk{e: e, t: t, n: float64(o.n)}
	if err := d.look(""); err != nil {
		return err
	}
	if err := sendMany(0, o.n, singleSenders, e.send); err != nil {
		return err
	}
	if err := d.look("enqueued"); err != nil {
		return err
	}
	if err := e.run(); err != nil {
		return err
	}
	if err := e.await(o.n); err != nil {
		return err
	}
	if _, err := r.await(o.n, phaseLimit); err != nil {
		return err
	}
	return d.look("delivered")
}

// disk looks at a database after each step.
type disk struct {
	e          *entry
	t          *table
	n          float64
	empty, log int64 // bytes before the first, and of log at the last look
}

func (d *disk) look(step string) error {
	be := d.e.be
	switch be.dialect {
	case sqlstore.SQLite: // the log, too, is in the file then
		var busy, pages, moved int
		if err := be.db.QueryRow("PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &pages, &moved); err != nil {
			return err
		}
	case sqlstore.PostgreSQL:
		if _, err := be.db.Exec("CHECKPOINT"); err != nil {
			return err
		}
	}
	var size, log int64
	if err := be.db.QueryRow(diskQueries[be.dialect]).Scan(&size); err != nil {
		return err
	}
	if be.wal != nil {
		var err error
		if log, err = be.wal(); err != nil {
			return err
		}
	}
	if step == "" {
		d.empty = size
	} else {
		d.t.add(d.e.name, "on disk, "+step, float64(size-d.empty)/d.n)
		if be.wal != nil {
			d.t.add(d.e.name, "log, "+step, float64(log-d.log)/d.n)
		}
	}
	d.log = log
	return nil
}
