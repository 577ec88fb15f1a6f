package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"
)

// gauges are what a database can tell about itself. A nil one is not known.
type gauges struct {
	cpu func() time.Duration  // of the database's processes; nil: it is in ours
	wal func() (int64, error) // bytes of log written so far
	txs func() (int64, error) // transactions committed so far, by the database's own count
}

// meter takes the differences that a phase makes.
type meter struct {
	g         gauges
	calls     func() int64 // of a store that are a transaction each; nil: not counted
	before    int64
	cpu       time.Duration
	serverCPU time.Duration
	wal, txs  int64
}

func startMeter(g gauges, calls func() int64) (*meter, error) {
	m := &meter{g: g, calls: calls}
	var err error
	if g.wal != nil {
		if m.wal, err = g.wal(); err != nil {
			return nil, err
		}
	}
	if g.txs != nil {
		if m.txs, err = g.txs(); err != nil {
			return nil, err
		}
	}
	if g.cpu != nil {
		m.serverCPU = g.cpu()
	}
	if calls != nil {
		m.before = calls()
	}
	m.cpu = cpu()
	return m, nil
}

// The columns of a meter.
const (
	cpuColumn   = "CPU s/1000"
	dbCPUColumn = "database CPU s/1000"
	callsColumn = "transactions a delivery"
	txsColumn   = "by the database's count"
	walColumn   = "log bytes a delivery"
)

// read adds what n deliveries took since.
func (m *meter) read(t *table, row string, n int) error {
	each := float64(n)
	t.add(row, cpuColumn, (cpu()-m.cpu).Seconds()/each*1000)
	if m.g.cpu != nil {
		t.add(row, dbCPUColumn, (m.g.cpu()-m.serverCPU).Seconds()/each*1000)
	}
	if m.calls != nil {
		t.add(row, callsColumn, float64(m.calls()-m.before)/each)
	}
	if m.g.txs != nil {
		txs, err := m.g.txs()
		if err != nil {
			return err
		}
		t.add(row, txsColumn, float64(txs-m.txs)/each)
	}
	if m.g.wal != nil {
		wal, err := m.g.wal()
		if err != nil {
			return err
		}
		t.add(row, walColumn, float64(wal-m.wal)/each)
	}
	return nil
}

// profiler writes profiles of drains to a folder; nil or "" is none.
type profiler struct{ dir string }

// start profiles until the function that it returns is called.
func (p *profiler) start(name string) (stop func() error) {
	if p == nil || p.dir == "" {
		return func() error { return nil }
	}
	runtime.SetMutexProfileFraction(5)
	runtime.SetBlockProfileRate(int(10 * time.Microsecond))
	runtime.GC() // what is allocated is in the profile from the end of a collection
	err := p.write(name, "allocs-before", "allocs")
	var f *os.File
	if err == nil {
		f, err = os.Create(filepath.Join(p.dir, name+".cpu.pprof"))
	}
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	return func() error {
		if err != nil {
			return err
		}
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			return err
		}
		for _, kind := range []string{"allocs", "mutex", "block"} {
			if err := p.write(name, kind, kind); err != nil {
				return err
			}
		}
		return nil
	}
}

// write writes one profile of the process so far. Allocations of a drain are those of "allocs" without those of "allocs-before"
// (go tool pprof -base).
func (p *profiler) write(name, as, kind string) error {
	f, err := os.Create(filepath.Join(p.dir, name+"."+as+".pprof"))
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup(kind).WriteTo(f, 0), f.Close())
}
