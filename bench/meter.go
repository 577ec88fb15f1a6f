package main

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"
)

// meter takes the differences that a phase makes.
type meter struct {
	be        *backend
	calls     int64
	cpu       time.Duration
	serverCPU time.Duration
	wal, txs  int64
}

func (be *backend) meter() (*meter, error) {
	m := &meter{be: be}
	var err error
	if be.cpu != nil {
		m.serverCPU = be.cpu()
	}
	if be.wal != nil {
		if m.wal, err = be.wal(); err != nil {
			return nil, err
		}
	}
	if be.txs != nil {
		if m.txs, err = be.txs(); err != nil {
			return nil, err
		}
	}
	m.calls, m.cpu = be.store.calls.Load(), cpu()
	return m, nil
}

// read adds what n deliveries took since.
func (m *meter) read(t *table, n int) error {
	each := float64(n)
	used, calls := cpu()-m.cpu, m.be.store.calls.Load()-m.calls
	t.add(m.be.name, "CPU s/1000", used.Seconds()/each*1000)
	if m.be.cpu != nil {
		t.add(m.be.name, "database CPU s/1000", (m.be.cpu()-m.serverCPU).Seconds()/each*1000)
	}
	t.add(m.be.name, "transactions a delivery", float64(calls)/each)
	if m.be.txs != nil {
		txs, err := m.be.txs()
		if err != nil {
			return err
		}
		t.add(m.be.name, "by the database's count", float64(txs-m.txs)/each)
	}
	if m.be.wal != nil {
		wal, err := m.be.wal()
		if err != nil {
			return err
		}
		t.add(m.be.name, "log bytes a delivery", float64(wal-m.wal)/each)
	}
	return nil
}

// profiler writes profiles of drains to a folder; "" is none.
type profiler struct{ dir string }

// start profiles until the function that it returns is called.
func (p *profiler) start(name string) (stop func() error) {
	if p.dir == "" {
		return func() error { return nil }
	}
	runtime.SetMutexProfileFraction(5)
	runtime.SetBlockProfileRate(int(10 * time.Microsecond))
	f, err := os.Create(filepath.Join(p.dir, name+".cpu.pprof"))
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
			f, err := os.Create(filepath.Join(p.dir, name+"."+kind+".pprof"))
			if err != nil {
				return err
			}
			if err := pprof.Lookup(kind).WriteTo(f, 0); err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	}
}
