package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// examineFactor bounds the rows that one claim looks at, as a multiple of its Limit: of an ordering key's backlog only the first is
// handed out, the others are parked, each once.
const examineFactor = 4

// What becomes of a row that a claim has picked.
const (
	fateLease = 0 // leased
	fatePark  = 1 // its predecessor is unfinished: parked
	fateLeave = 2 // its predecessor is just being worked on: for a later claim to look at
)

// claimState is one claim under way.
type claimState struct {
	store   *Store
	req     *webhook.ClaimRequest
	early   *earlyRead // SQLite; nil elsewhere
	clock   time.Time
	lanes   []laneState // by place in the request
	buckets map[string]*bucket
	states  map[string]bool // endpoints that have a row of state
	found   []pickedRow     // leased
	seen    int             // examined
	walked  int             // in ordering keys, beyond those examined
}

// laneState is what a claim knows about a lane it was asked for.
type laneState struct {
	ask       *webhook.LaneClaim
	low       int64 // no row due before
	leaseEnd  int64
	got       int
	cap       int // of this round
	picked    int // in this round
	held      bool
	heldUntil time.Time
	done      bool // nothing more to get in this claim
	more      bool
	rateUntil time.Time
	next      int64 // where the next claim may begin; noTime: as this one
}

// pickedRow is a candidate, and when leased a delivery.
type pickedRow struct {
	lane                              int // place in the request
	fate                              int
	id, eventID, endpointID, orderKey string
	seq, dueAt, token, createdAt      int64
	attempts                          int
	reason                            string
	leaseEnd                          int64
	expiresAt                         sql.NullInt64
	replay, replayOf                  sql.NullString
	beside                            int // place of its event in what was read early, from 1; 0: it was not
}

// Claim implements [webhook.Store]. Events are read in the claiming transaction, or before, so that a claim which fails has leased nothing.
func (s *Store) Claim(ctx context.Context, req *webhook.ClaimRequest) (*webhook.ClaimResult, error) {
	if err := checkText("claim", "ClaimRequest.Owner", req.Owner, true); err != nil {
		return nil, err
	}
	var early *earlyRead
	if s.dialect == SQLite {
		early = newClaimState(s, req).readEarly(ctx)
		if s.crowded.lately() {
			early.forgetLanes()
		}
	}
	res, err := s.claim(ctx, req, early)
	if errors.Is(err, errSupposed) {
		s.crowded.note()
		early.forgetLanes()
		if res, err = s.claim(ctx, req, early); errors.Is(err, errSupposed) {
			return nil, &webhook.FieldError{Op: "claim", Field: "ClaimRequest.Lanes", Reason: "name a lane twice"}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("webhook: sqlstore: claim: %w", err)
	}
	return res, nil
}

// claim is one try of a claim.
func (s *Store) claim(ctx context.Context, req *webhook.ClaimRequest, early *earlyRead) (res *webhook.ClaimResult, err error) {
	err = s.write(ctx, func(ctx context.Context, q querier) error {
		c := newClaimState(s, req)
		c.early = early
		if err := c.readHolds(ctx, q); err != nil {
			return err
		}
		if err := c.fillBuckets(ctx, q); err != nil {
			return err
		}
		for c.nextRound() {
			rows, err := c.pick(ctx, q)
			if err != nil {
				return err
			}
			c.apply(rows)
			if err := c.parkRuns(ctx, q, rows); err != nil {
				return err
			}
		}
		if err := c.emptyBuckets(ctx, q); err != nil {
			return err
		}
		var events map[string]eventRead
		if early != nil {
			events = early.events
		} else {
			events = make(map[string]eventRead, len(c.found))
		}
		if err := s.readEvents(ctx, q, eventsApart(c.found), events); err != nil {
			return err
		}
		res, err = c.result(events)
		return err
	})
	return res, err
}

func newClaimState(s *Store, req *webhook.ClaimRequest) *claimState {
	c := &claimState{store: s, req: req, lanes: make([]laneState, len(req.Lanes)), buckets: make(map[string]*bucket), states: make(map[string]bool)}
	for i := range req.Lanes {
		ask := &req.Lanes[i]
		l := &c.lanes[i]
		l.ask = ask
		l.leaseEnd = micros(req.Now.Add(ask.Lease))
		l.low, l.next = minMicros, noTime
		if !ask.From.IsZero() {
			l.low = micros(ask.From)
		}
		if limited(ask.Rate) && c.buckets[ask.EndpointID] == nil {
			c.buckets[ask.EndpointID] = newBucket(ask.Rate, req.Now)
		}
	}
	return c
}

const (
	minMicros = -1 << 62 // before every due time
	noTime    = minMicros
)

// nextRound shares out what may still be claimed over the lanes and says whether there is any.
// A round asks each lane for what it may have. A second one is needed where rows were parked, or where two lanes share a
// rate limit or the Limit and one of them did not use its share.
func (c *claimState) nextRound() bool {
	left := c.req.Limit - len(c.found)
	budget := examineFactor*c.req.Limit - c.seen
	promised := make(map[string]int64)
	some := false
	for i := range c.lanes {
		l := &c.lanes[i]
		l.cap, l.picked = 0, 0
		if l.done {
			continue
		}
		b := c.bucketOf(l)
		if b != nil && b.left() == 0 {
			l.done, l.more, l.rateUntil = true, true, b.next()
			continue
		}
		if left <= 0 || budget <= 0 {
			l.more = true
			continue
		}
		l.more = false
		l.cap = min(l.ask.Max-l.got, left, budget)
		if b != nil {
			l.cap = int(min(int64(l.cap), max(b.left()-promised[l.ask.EndpointID], 0)))
			promised[l.ask.EndpointID] += int64(l.cap)
		}
		budget -= l.cap
		some = some || l.cap > 0
	}
	return some
}

// bucketOf is the rate limit of a lane, nil for none.
func (c *claimState) bucketOf(l *laneState) *bucket {
	if !limited(l.ask.Rate) {
		return nil
	}
	return c.buckets[l.ask.EndpointID]
}

// apply takes in what a round has picked, in order of lane and due time.
func (c *claimState) apply(rows []pickedRow) {
	left := c.req.Limit - len(c.found)
	reached := len(rows) >= left // the statement may have stopped before later lanes
	lastLane := -1
	all := len(c.found) == 0 && allLeased(rows) // mostly: what is found is what was picked
	if all {
		c.found = rows
	} else {
		c.found = slices.Grow(c.found, min(len(rows), max(left, 0)))
	}
	for i := range rows {
		r := &rows[i]
		l := &c.lanes[r.lane]
		lastLane = max(lastLane, r.lane)
		l.picked++
		if !l.more || !l.done { // else a row was left behind, where the next claim begins
			l.next = max(l.next, r.dueAt)
		}
		switch r.fate {
		case fateLease:
			l.got++
			if !all {
				c.found = append(c.found, *r)
			}
			if b := c.bucketOf(l); b != nil {
				b.taken++
			}
		case fateLeave:
			l.more, l.done = true, true
		}
	}
	c.seen += len(rows)
	for i := range c.lanes {
		l := &c.lanes[i]
		switch {
		case l.done || l.cap == 0:
		case l.got >= l.ask.Max:
			l.done, l.more = true, true
		case l.picked < l.cap && (!reached || i < lastLane):
			l.done = true
		}
	}
}

func allLeased(rows []pickedRow) bool {
	for i := range rows {
		if rows[i].fate != fateLease {
			return false
		}
	}
	return true
}

// result puts the answer together.
func (c *claimState) result(events map[string]eventRead) (*webhook.ClaimResult, error) {
	res := &webhook.ClaimResult{Now: c.clock, Lanes: make([]webhook.LaneStatus, len(c.lanes))}
	res.Deliveries = slices.Grow(res.Deliveries, len(c.found))
	// Rounds may have come back to a lane.
	slices.SortStableFunc(c.found, func(a, b pickedRow) int { return a.lane - b.lane })
	for i := range c.found {
		r := &c.found[i]
		read := c.early.eventOf(r)
		if read == nil {
			apart, ok := events[r.eventID]
			if !ok {
				apart = eventRead{webhook.Event{ID: r.eventID}, errNoEvent}
			}
			read = &apart
		}
		res.Deliveries = append(res.Deliveries, webhook.Claimed{
			Delivery: webhook.Delivery{
				ID: r.id, EventID: r.eventID, EndpointID: r.endpointID, OrderingKey: r.orderKey, Sequence: r.seq, State: webhook.Delivering,
				Reason: r.reason, Attempts: r.attempts, DueAt: fromMicros(r.leaseEnd), CreatedAt: fromMicros(r.createdAt),
				ExpiresAt: fromOptMicros(r.expiresAt), Replay: r.replay.String, ReplayOf: r.replayOf.String,
			},
			Event: read.event, Token: r.token, LeaseUntil: fromMicros(r.leaseEnd), Unreadable: read.err,
		})
	}
	for i := range c.lanes {
		l := &c.lanes[i]
		st := webhook.LaneStatus{Held: l.held, HeldUntil: l.heldUntil, RateUntil: l.rateUntil, More: l.more, NextFrom: l.ask.From}
		if l.next != noTime {
			st.NextFrom = fromMicros(l.next)
		}
		res.Lanes[i] = st
	}
	return res, nil
}

// readHolds reads the store's clock, what is on hold and what has to wait.
func (c *claimState) readHolds(ctx context.Context, q querier) error {
	ids := c.endpointIDs(func(*laneState) bool { return true })
	if c.store.dialect == SQLite {
		c.clock = floor(time.Now())
	}
	held, early := make(map[string]sql.NullInt64), make(map[string]time.Time)
	err := c.store.selectByID(ctx, q, c.store.sql.holds, ids, func(rows *sql.Rows) error {
		var clock int64
		var id sql.NullString
		var hold sql.NullBool
		var until, notBefore sql.NullInt64
		if err := rows.Scan(&clock, &id, &hold, &until, &notBefore); err != nil {
			return err
		}
		if c.store.dialect != SQLite {
			c.clock = fromMicros(clock)
		}
		c.states[id.String] = true
		if hold.Bool && (!until.Valid || until.Int64 > micros(c.req.Now)) {
			held[id.String] = until
		} else if notBefore.Valid && notBefore.Int64 > micros(c.req.Now) {
			early[id.String] = fromMicros(notBefore.Int64)
		}
		return nil
	})
	for i := range c.lanes {
		l := &c.lanes[i]
		if until, ok := held[l.ask.EndpointID]; ok {
			l.held, l.done, l.heldUntil = true, true, fromOptMicros(until)
		} else if until, ok := early[l.ask.EndpointID]; ok {
			l.done, l.rateUntil = true, until
		}
	}
	return err
}

// endpointIDs are those of the lanes that pass, each once, sorted: rows are locked in that order.
func (c *claimState) endpointIDs(pass func(*laneState) bool) []string {
	var ids []string
	for i := range c.lanes {
		if pass(&c.lanes[i]) {
			ids = append(ids, c.lanes[i].ask.EndpointID)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// fillBuckets locks the rate limits of the lanes that have one, without waiting for other claims that have them, and reads them.
func (c *claimState) fillBuckets(ctx context.Context, q querier) error {
	ids := c.endpointIDs(func(l *laneState) bool { return !l.done && limited(l.ask.Rate) })
	if len(ids) == 0 {
		return nil
	}
	// Rows that are missing come first: who adds them while another does waits, and so must have nothing locked.
	for _, id := range ids {
		if c.states[id] {
			continue
		}
		if _, err := q.ExecContext(ctx, c.store.sql.addState, id); err != nil {
			return err
		}
	}
	return c.store.selectByID(ctx, q, c.store.sql.lockStates, ids, func(rows *sql.Rows) error {
		var id string
		var tat, depth int64
		err := rows.Scan(&id, &tat, &depth)
		if b := c.buckets[id]; b != nil {
			b.set(tat, depth)
		}
		return err
	})
}

// emptyBuckets stores what was taken.
func (c *claimState) emptyBuckets(ctx context.Context, q querier) error {
	for id, b := range c.buckets {
		if b.taken == 0 && !b.clipped {
			continue
		}
		if _, err := q.ExecContext(ctx, c.store.sql.setTAT, b.after(), b.depth(), id); err != nil {
			return err
		}
	}
	return nil
}

// eventRead is an event as it was read; err says why it could not be, and harms no other.
type eventRead struct {
	event webhook.Event
	err   error
}

var errNoEvent = errors.New("there is no such event")

// eventsApart are the IDs of the events of rows, as they come, but those that were read with them.
func eventsApart(rows []pickedRow) []string {
	var ids []string
	for i := range rows {
		if r := &rows[i]; r.beside == 0 {
			ids = append(ids, r.eventID)
		}
	}
	return ids
}

// readEvents adds the events of these IDs to events, unless they are there. It takes ids over.
func (s *Store) readEvents(ctx context.Context, q querier, ids []string, events map[string]eventRead) error {
	ids = slices.DeleteFunc(ids, func(id string) bool {
		_, known := events[id]
		return known
	})
	slices.Sort(ids)
	ids = slices.Compact(ids)
	var e webhook.Event // one for all rows: what is scanned into escapes
	var header []byte
	return s.selectByID(ctx, q, s.sql.events, ids, func(rows *sql.Rows) error {
		if err := rows.Scan(&e.ID, &e.Type, &e.Tenant, &e.OrderingKey, &header, &e.Payload); err != nil {
			return err
		}
		events[e.ID] = readEvent(e, header)
		return nil
	})
}

// readEvent is e with its header, as JSON, in place.
func readEvent(e webhook.Event, header []byte) eventRead {
	if len(header) > 0 {
		if err := json.Unmarshal(header, &e.Header); err != nil {
			return eventRead{webhook.Event{ID: e.ID}, fmt.Errorf("header: %w", err)}
		}
	}
	if len(e.Payload) == 0 { // drivers differ
		e.Payload = nil
	}
	return eventRead{event: e}
}
