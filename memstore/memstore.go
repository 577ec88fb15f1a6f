// Package memstore keeps everything that webhooks need in memory: for tests, for trying things out, and for services that
// can bear to lose what is waiting when the process ends. It implements every store interface of package webhook:
// [webhook.Store], [webhook.HoldStore], [webhook.StateStore], [webhook.LifeStore], [webhook.EndpointStore], [webhook.DedupeStore],
// [webhook.QueryStore], [webhook.Pruner], [webhook.Eraser] and [webhook.ReplayStore].
//
// It starts no goroutine, reads the clock with time.Now only, and never blocks while it holds its lock, so it works under
// testing/synctest. "Durable" means here: until the process ends. It writes nothing anywhere, so it seals nothing: secrets are in this
// process's memory as they are.
//
// # Memory
//
// A waiting delivery takes about 900 bytes besides its payload, which deliveries of one event share.
// Finished deliveries stay readable, with their events and attempts, up to [Options.KeepFinished]; beyond that the one that finished
// first is forgotten, and an event with its last delivery. What else grows until it is pruned: the IDs of
// forgotten events (about 150 bytes each; [Store.Prune] with EventIDsBefore), replays (about 500 bytes each, for good) and expired idempotency keys (Prune with DedupeKeys).
// Endpoints ever sent to, ordering keys ever used and deleted endpoints cost some hundred bytes each, for good.
package memstore

import (
	"cmp"
	"container/list"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/signalpost/webhook"
)

// DefaultKeepFinished is how many finished deliveries are kept when [Options.KeepFinished] is zero.
const DefaultKeepFinished = 100_000

// Options bound a [Store].
type Options struct {
	// KeepFinished is how many finished deliveries stay readable; events that matched nothing count as one. Zero:
	// [DefaultKeepFinished]. Negative: all of them.
	KeepFinished int
}

// Store is everything in memory. Make it with [New]. It is safe for concurrent use.
type Store struct {
	keep int // finished deliveries; negative: all

	mu        sync.Mutex // never held while blocking
	n         int64      // counter that breaks ties and gives dedupe tokens
	ids       map[string]*eventID
	events    map[string]*event
	rows      map[string]*row
	byID      sorted[*row]
	endpoints map[string]*endpointState
	holds     map[string]*hold // those in force or run out, by endpoint
	sending   sorted[*endpointState]
	lanes     sorted[*lane]    // those with something in them
	expiry    sorted[*row]     // unfinished ones that expire
	history   sorted[finished] // in the order of finishing
	orphans   sorted[*eventID] // IDs whose event is forgotten, in the order of storing

	failed     sorted[*row]   // those that ended otherwise than delivered, by ID
	unmatched  sorted[*event] // events without deliveries, by ID
	eventsByID sorted[*event] // all; kept from the first question on, for sends need not pay for it

	states       sorted[*endpointState] // those with a version, in the order of version
	stateVersion int64

	registered map[string]*registration
	regByID    sorted[*registration] // those not deleted
	changes    *list.List            // of *registration, in the order of version
	version    int64

	replays map[string]*replay

	keys      map[dedupeID]*dedupe
	keyHolds  sorted[*dedupe] // those held
	keyExpiry sorted[*dedupe] // those done: apart, for a hold ends long before the memory of all that is done
}

// String is "memstore".
func (s *Store) String() string { return "memstore" }

// Format shows String for every verb: fmt would show what endpoints have, without asking them.
func (s *Store) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

var (
	_ webhook.Store         = (*Store)(nil)
	_ webhook.HoldStore     = (*Store)(nil)
	_ webhook.StateStore    = (*Store)(nil)
	_ webhook.LifeStore     = (*Store)(nil)
	_ webhook.EndpointStore = (*Store)(nil)
	_ webhook.DedupeStore   = (*Store)(nil)
	_ webhook.QueryStore    = (*Store)(nil)
	_ webhook.Pruner        = (*Store)(nil)
	_ webhook.Eraser        = (*Store)(nil)
	_ webhook.ReplayStore   = (*Store)(nil)
)

// New returns an empty store with default [Options].
func New() *Store { return NewWithOptions(nil) }

// NewWithOptions returns an empty store. opts may be nil.
func NewWithOptions(opts *Options) *Store {
	keep := DefaultKeepFinished
	if opts != nil && opts.KeepFinished != 0 {
		keep = opts.KeepFinished
	}
	return &Store{
		keep:       keep,
		ids:        make(map[string]*eventID),
		events:     make(map[string]*event),
		rows:       make(map[string]*row),
		byID:       sorted[*row]{cmp: rowsByID},
		endpoints:  make(map[string]*endpointState),
		holds:      make(map[string]*hold),
		sending:    sorted[*endpointState]{cmp: func(a, b *endpointState) int { return strings.Compare(a.id, b.id) }},
		lanes:      sorted[*lane]{cmp: lanesByID},
		expiry:     sorted[*row]{cmp: rowsByExpiry},
		states:     sorted[*endpointState]{cmp: statesByVersion},
		history:    sorted[finished]{cmp: func(a, b finished) int { return cmp.Compare(a.n, b.n) }},
		orphans:    sorted[*eventID]{cmp: idsByAge},
		failed:     sorted[*row]{cmp: rowsByID},
		unmatched:  sorted[*event]{cmp: eventsByID},
		registered: make(map[string]*registration),
		regByID:    sorted[*registration]{cmp: func(a, b *registration) int { return strings.Compare(a.ep.ID, b.ep.ID) }},
		changes:    list.New(),
		replays:    make(map[string]*replay),
		keys:       make(map[dedupeID]*dedupe),
		keyHolds:   sorted[*dedupe]{cmp: keysByExpiry},
		keyExpiry:  sorted[*dedupe]{cmp: keysByExpiry},
	}
}

// Now is the process's clock, to the microsecond.
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	return micro(time.Now()), nil
}

// next counts up. The caller holds s.mu.
func (s *Store) next() int64 {
	s.n++
	return s.n
}

// endpoint is the sending state of an endpoint, made on first use. The caller holds s.mu.
func (s *Store) endpoint(id string) *endpointState {
	e := s.endpoints[id]
	if e == nil {
		e = &endpointState{
			id:      id,
			keys:    make(map[string]*orderKey),
			byID:    sorted[*row]{cmp: rowsByID},
			failed:  sorted[*row]{cmp: rowsByID},
			parked:  sorted[waiting]{cmp: byDue},
			blocked: sorted[*orderKey]{cmp: keysByBlock},
		}
		for _, class := range []webhook.Class{webhook.Fresh, webhook.Retry} {
			e.lanes[class] = lane{
				id:      webhook.LaneID{EndpointID: id, Class: class},
				waiting: sorted[waiting]{cmp: byDue},
			}
		}
		s.endpoints[id] = e
		s.sending.insert(e)
	}
	return e
}

// micro rounds down to the microsecond, in UTC and without a monotonic reading.
func micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// invalid is the error for a request that breaks its contract.
func invalid(op, field, reason string) error {
	return &webhook.FieldError{Op: op, Field: field, Reason: reason}
}
