package main

import (
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Rows of the tables that have peers.
const (
	oursRow      = "ours, PostgreSQL"
	riverRow     = "river"
	tunedRow     = "river-tuned"
	handRow      = "SKIP LOCKED by hand"
	watermillRow = "Watermill SQL and HTTP"
	wireRow      = "HTTP/1.1 by hand, no store"
	riverTuning  = 5 * time.Millisecond // FetchCooldown of river-tuned
	rawSlow      = 256                  // goroutines of net/http on the slow receiver: as many as a dispatcher has senders
)

// stoppers end what was started, the last first.
type stoppers []func() error

func (s stoppers) stop() {
	for _, stop := range slices.Backward(s) {
		if err := stop(); err != nil {
			slog.Warn("bench: stopping", slog.Any("error", err))
		}
	}
}

// openPeers opens ours and every peer, each on a database of its own on one server.
func openPeers(o *options) (entries []*entry, stops stoppers, err error) {
	server, err := startPostgres()
	if err != nil {
		return nil, nil, err
	}
	stops = append(stops, server.stop)
	be, err := server.backend("webhook")
	if err != nil {
		stops.stop()
		return nil, nil, err
	}
	stops = append(stops, be.stop)
	entries = oursOn(o, be)
	for _, open := range []func(*pgServer) (*entry, func() error, error){
		func(s *pgServer) (*entry, func() error, error) { return openRiver(s, riverRow, "river", 0) },
		func(s *pgServer) (*entry, func() error, error) {
			return openRiver(s, tunedRow, "river_tuned", riverTuning)
		},
		openHandLoop, openWatermill,
	} {
		e, stop, err := open(server)
		if err != nil {
			stops.stop()
			return nil, nil, err
		}
		entries, stops = append(entries, e), append(stops, stop)
	}
	return entries, stops, nil
}

// measurePeers measures ours and its peers on PostgreSQL, beside the requests alone, taking turns.
func measurePeers(o *options) ([]*table, error) {
	entries, stops, err := openPeers(o)
	if err != nil {
		return nil, err
	}
	defer stops.stop()
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	c := &contest{n: o.n, receiver: r}
	c.table = newTable(fmt.Sprintf("Peers on PostgreSQL: %d deliveries of 1 KiB, %d rounds; River with %d workers", o.n, o.rounds, riverWorkers))
	c.table.atMost(oursRow, txsColumn, 0.01)
	ratios := newTable("Ours on PostgreSQL against its peers, round by round")
	setPeerBars(ratios)
	tables := []*table{c.table, ratios}
	c.after = func() error {
		if _, err := rawLimit(r, c.table, wireRow, r.url+"/0", c.n, o.rawSenders, postWire); err != nil {
			return err
		}
		if err := c.rawSlow(); err != nil {
			return err
		}
		addRatios(ratios, c.table)
		return nil
	}
	return tables, c.rounds(o, entries, func(e *entry) error {
		if err := c.round(e); err != nil {
			return err
		}
		return c.slow(e)
	})
}

// raw measures the requests alone.
func (c *contest) raw(o *options) (float64, error) {
	return rawLimit(c.receiver, c.table, rawRow, c.receiver.url+"/0", c.n, o.rawSenders, postRaw)
}

// rawSlow measures them at the receiver that takes slowAnswer.
func (c *contest) rawSlow() error {
	rate, err := rawLimit(c.receiver, newTable(""), rawRow, slowURL(c.receiver, slowAnswer)+"/0", c.n, rawSlow, postRaw)
	c.table.add(rawRow, slowColumn, rate)
	return err
}

// peerBars are the bars of issue 4 that compare with River, as ratios of ours to it.
var peerBars = []struct {
	column string
	bar    bar
}{
	{drainColumn, bar{true, 2.3}},
	{bothColumn, bar{true, 4}},
	{singleColumn, bar{true, 4.5}},
	{slowColumn, bar{true, 1.9}},
	{p50Column, bar{false, 0.35}},
	{p99Column, bar{false, 0.8}},
	{dbCPUColumn, bar{false, 0.35}},
	{walColumn, bar{false, 0.2}},
	{cpuColumn, bar{}},
	{batchColumn, bar{}},
}

func setPeerBars(t *table) {
	for _, b := range peerBars {
		if b.bar != (bar{}) {
			t.setBar(b.column, over(tunedRow), b.bar)
		}
	}
	t.atLeast(singleColumn, over(riverRow), 4.5)
	t.atLeast(drainColumn, over("net/http"), 0.8)
}

func over(row string) string { return "ours / " + row }

// addRatios adds the ratios of the latest round.
func addRatios(ratios, t *table) {
	for _, b := range peerBars {
		mine := t.last(oursRow, b.column)
		for _, row := range t.Rows {
			if row == oursRow || row == rawRow || row == wireRow {
				continue
			}
			if theirs := t.last(row, b.column); theirs > 0 {
				ratios.add(b.column, over(row), mine/theirs)
			}
		}
	}
	ratios.add(drainColumn, over("net/http"), t.last(oursRow, drainRawColumn))
	ratios.add(slowColumn, over("net/http"), t.last(oursRow, slowColumn)/t.last(rawRow, slowColumn))
}
