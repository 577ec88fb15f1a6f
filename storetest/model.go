package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// model is what a store should look like from outside: small, slow and obvious. It has no lanes, no queue and no parking; it says which
// answers are allowed, since stores may differ in what the contract leaves free (see the package comment).
type model struct {
	now    time.Time
	events map[string][32]byte // digests by ID
	rows   map[string]*mrow
	order  []*mrow // in the order of enqueueing
	holds  map[string]mhold
	tat    map[string]time.Time // of GCRA, by endpoint
	states map[string]*mstate
	seen   int64             // the version of states that was read last
	claims []webhook.Claimed // all ever made
}

// mrow is a delivery.
type mrow struct {
	d        webhook.Delivery // DueAt is the due time or the lease's end, unless it is over
	class    webhook.Class
	leased   bool
	token    int64
	attempts map[int64]webhook.Attempt
	blocks   bool // a dead letter that its key waits behind
	holdsKey bool // and the key reads as held

	over    bool      // ended by End: d is final, and the row keeps its place in its key
	overDue time.Time // its due time or the lease's end, when it is over
	dueAt   time.Time // its due time, whether leased or not
	putOff  time.Time // the end of the lease under which End met it, when its time had run out
}

// waits reports whether r is still to be claimed, if only to be taken out of its key.
func (r *mrow) waits() bool { return r.over || !r.d.State.Final() }

// due is r's due time or the lease's end.
func (r *mrow) due() time.Time {
	if r.over {
		return r.overDue
	}
	return r.d.DueAt
}

// setDue changes it.
func (r *mrow) setDue(t time.Time) {
	if t.Before(r.dueAt) {
		r.dueAt = t
	}
	if r.over {
		r.overDue = t
	} else {
		r.d.DueAt = t
	}
}

type mhold struct{ until time.Time }

func newModel() *model {
	return &model{now: at(0), events: map[string][32]byte{}, rows: map[string]*mrow{}, holds: map[string]mhold{}, tat: map[string]time.Time{},
		states: map[string]*mstate{}}
}

// enqueue says what becomes of each event, and does it.
func (m *model) enqueue(events []webhook.NewEvent) (want []webhook.EnqueueStatus) {
	for _, ev := range events {
		digest, known := m.events[ev.Event.ID]
		switch {
		case known && digest == ev.Digest:
			want = append(want, webhook.Repeat)
			continue
		case known:
			want = append(want, webhook.Conflict)
			continue
		}
		want = append(want, webhook.Stored)
		m.events[ev.Event.ID] = ev.Digest
		for _, d := range ev.Deliveries {
			m.add(ev.Event.ID, d)
		}
	}
	return want
}

func (m *model) add(eventID string, d webhook.NewDelivery) {
	r := &mrow{attempts: map[int64]webhook.Attempt{}, d: webhook.Delivery{ID: d.ID, EventID: eventID, EndpointID: d.EndpointID,
		OrderingKey: d.OrderingKey, State: webhook.Queued, DueAt: d.DueAt, CreatedAt: m.now, ExpiresAt: d.ExpiresAt}}
	if d.DueAt.IsZero() {
		r.d.DueAt = m.now
	}
	r.dueAt = r.d.DueAt
	if d.OrderingKey != "" {
		r.d.Sequence = int64(len(m.key(r))) + 1
	}
	if d.Lease > 0 {
		r.leased, r.token, r.d.DueAt = true, 1, m.now.Add(d.Lease)
		m.claims = append(m.claims, webhook.Claimed{Delivery: r.d, Token: 1})
	}
	m.rows[d.ID] = r
	m.order = append(m.order, r)
}

// key returns the rows of r's endpoint and ordering key, in order.
func (m *model) key(r *mrow) (key []*mrow) {
	for _, o := range m.order {
		if o.d.EndpointID == r.d.EndpointID && o.d.OrderingKey == r.d.OrderingKey {
			key = append(key, o)
		}
	}
	return key
}

// blocked reports whether an ordered row waits for a predecessor, and whether its key is on hold.
func (m *model) blocked(r *mrow) (waits, held bool) {
	if r.d.OrderingKey == "" {
		return false, false
	}
	for _, o := range m.key(r) {
		if o == r {
			return waits, held
		}
		waits = waits || o.blocks || o.waits()
		held = held || o.blocks && o.holdsKey
	}
	return waits, held
}

// held reports whether an endpoint is on hold now.
func (m *model) held(endpoint string) (bool, time.Time) {
	h, ok := m.holds[endpoint]
	if !ok || !h.until.IsZero() && !h.until.After(m.now) {
		return false, time.Time{}
	}
	return true, h.until
}

// claimable returns the rows of a lane that a claim may return now, earliest first.
func (m *model) claimable(l webhook.LaneID) (rows []*mrow) {
	for _, r := range m.order {
		if r.d.EndpointID == l.EndpointID && r.class == l.Class && r.waits() && !r.due().After(m.now) {
			if waits, _ := m.blocked(r); !waits {
				rows = append(rows, r)
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b *mrow) int { return a.due().Compare(b.due()) })
	return rows
}

// allowed says how many a rate allows an endpoint now, and when the one after n more is allowed.
func (m *model) allowed(endpoint string, r webhook.Rate) (n int, after func(taken int) time.Time) {
	step := r.Per / time.Duration(r.Events)
	slack := step * time.Duration(r.Burst-1)
	tat := m.tat[endpoint]
	if tat.Before(m.now) {
		tat = m.now
	}
	for n = 0; !tat.Add(step * time.Duration(n)).After(m.now.Add(slack)); n++ {
	}
	return n, func(taken int) time.Time { return tat.Add(step*time.Duration(taken) - slack) }
}

// claimed checks the answer to a claim, lane by lane, and takes it over. It returns what is wrong.
func (m *model) claimed(req *webhook.ClaimRequest, res *webhook.ClaimResult) error {
	if len(res.Lanes) != len(req.Lanes) {
		return fmt.Errorf("%d lane statuses for %d lanes", len(res.Lanes), len(req.Lanes))
	}
	rest, room := res.Deliveries, req.Limit
	for i, l := range req.Lanes {
		n := 0
		for n < len(rest) && rest[n].Delivery.EndpointID == l.EndpointID && m.rows[rest[n].Delivery.ID] != nil &&
			m.rows[rest[n].Delivery.ID].class == l.Class {
			n++
		}
		if err := m.claimedLane(req.Now, l, room, rest[:n], res.Lanes[i]); err != nil {
			return fmt.Errorf("lane %v: %w", l.LaneID, err)
		}
		rest, room = rest[n:], room-n
	}
	if len(rest) > 0 {
		return fmt.Errorf("%v: not of the lanes named, or not lane by lane in request order", ids(rest))
	}
	return nil
}

func (m *model) claimedLane(now time.Time, l webhook.LaneClaim, room int, got []webhook.Claimed, st webhook.LaneStatus) error {
	held, until := m.held(l.EndpointID)
	if st.Held != held || !st.HeldUntil.Equal(until) {
		return fmt.Errorf("lane status Held is %v until %v, want %v until %v", st.Held, st.HeldUntil, held, until)
	}
	if held && len(got) > 0 {
		return fmt.Errorf("%v while the endpoint is on hold", ids(got))
	}
	if early := m.early(l.EndpointID); !early.IsZero() {
		if len(got) > 0 || !st.RateUntil.Equal(early) {
			return fmt.Errorf("%v and RateUntil %v before %v", ids(got), st.RateUntil, early)
		}
		return nil
	}
	may := m.claimable(l.LaneID)
	most := min(l.Max, room)
	if len(got) > most {
		return fmt.Errorf("%d deliveries with a Max of %d and %d left of Limit", len(got), l.Max, room)
	}
	if err := m.limited(l, len(got), min(most, len(may)), held, st); err != nil {
		return err
	}
	if want := min(most, len(may)); len(got) < want && !held && l.Rate.Events == 0 && !st.More {
		return fmt.Errorf("%d of %d deliveries without More", len(got), want)
	}
	if !held && l.Rate.Events == 0 && len(may) > len(got) && !st.More {
		return fmt.Errorf("%d claimable left without More", len(may)-len(got))
	}
	for i, c := range got {
		if i > 0 && m.rows[c.Delivery.ID].due().Before(m.rows[got[i-1].Delivery.ID].dueAt) {
			return fmt.Errorf("%v: not the earliest due first", ids(got))
		}
	}
	last := time.Time{}
	if len(got) > 0 {
		last = m.rows[got[len(got)-1].Delivery.ID].dueAt
	}
	for _, r := range may {
		if r.due().Before(last) && !slices.Contains(ids(got), r.d.ID) {
			return fmt.Errorf("%v: leaves out %s, which is due earlier", ids(got), r.d.ID)
		}
	}
	for _, c := range got {
		if !slices.Contains(may, m.rows[c.Delivery.ID]) {
			return fmt.Errorf("%s may not be claimed: %s", c.Delivery.ID, m.describe(c.Delivery.ID))
		}
	}
	for _, c := range got {
		if err := m.lease(now, l, c); err != nil {
			return err
		}
	}
	return nil
}

// limited checks a lane's rate and charges it with what was returned. could is how many would be returned without it.
func (m *model) limited(l webhook.LaneClaim, got, could int, held bool, st webhook.LaneStatus) error {
	if l.Rate.Events == 0 {
		if !st.RateUntil.IsZero() {
			return fmt.Errorf("RateUntil is %v without a Rate", st.RateUntil)
		}
		return nil
	}
	n, after := m.allowed(l.EndpointID, l.Rate)
	switch {
	case got > n:
		return fmt.Errorf("%d deliveries, the rate allows %d", got, n)
	case held:
		return nil
	case got < min(could, n) && !st.More:
		return fmt.Errorf("%d of %d deliveries without More", got, min(could, n))
	case got == n && could > n && !st.RateUntil.Equal(after(n)):
		return fmt.Errorf("RateUntil is %v, want %v", st.RateUntil, after(n))
	}
	if got > 0 {
		m.tat[l.EndpointID] = after(got).Add(l.Rate.Per / time.Duration(l.Rate.Events) * time.Duration(l.Rate.Burst-1))
	}
	return nil
}

// lease checks what was claimed and takes it over.
func (m *model) lease(now time.Time, l webhook.LaneClaim, c webhook.Claimed) error {
	r := m.rows[c.Delivery.ID]
	want := r.d
	want.State, want.DueAt, want.Reason, c.Delivery.Reason = webhook.Delivering, now.Add(l.Lease), "", ""
	if r.over {
		want.FinishedAt, want.ExpiresAt = time.Time{}, time.Unix(0, 0)
	}
	switch {
	case c.Token <= r.token:
		return fmt.Errorf("%s: token %d after %d", r.d.ID, c.Token, r.token)
	case !c.LeaseUntil.Equal(want.DueAt):
		return fmt.Errorf("%s: leased until %v, want %v", r.d.ID, c.LeaseUntil, want.DueAt)
	case !sameButForZones(c.Delivery, want):
		return fmt.Errorf("claimed %+v, want %+v", c.Delivery, want)
	case c.Event.ID != r.d.EventID:
		return fmt.Errorf("%s: event %q, want %q", r.d.ID, c.Event.ID, r.d.EventID)
	}
	r.leased, r.token = true, c.Token
	r.setDue(c.LeaseUntil)
	m.claims = append(m.claims, c)
	return nil
}

// sameButForZones compares deliveries, times as instants.
func sameButForZones(a, b webhook.Delivery) bool {
	same := a.DueAt.Equal(b.DueAt) && a.CreatedAt.Equal(b.CreatedAt) && a.FinishedAt.Equal(b.FinishedAt) && a.ExpiresAt.Equal(b.ExpiresAt)
	for _, d := range []*webhook.Delivery{&a, &b} {
		d.DueAt, d.CreatedAt, d.FinishedAt, d.ExpiresAt = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
	return same && a == b
}

// complete says what becomes of an outcome, and does it.
func (m *model) complete(o webhook.Outcome) webhook.OutcomeStatus {
	r := m.rows[o.DeliveryID]
	if r == nil {
		return webhook.Unknown
	}
	stale := !r.leased || r.token != o.Token
	if o.Attempt != nil {
		if a, ok := r.attempts[o.Token]; ok {
			if a.Late {
				return webhook.Stale
			}
			return webhook.Applied
		}
		a := *o.Attempt
		a.Late = stale
		r.attempts[o.Token] = a
		if !stale && !r.over && o.Next != webhook.Queued {
			r.d.Attempts++
		}
	}
	if stale {
		return webhook.Stale
	}
	r.leased = false
	if r.over {
		r.over = false
		return webhook.Applied
	}
	r.d.Reason, r.d.DueAt = o.Reason, o.DueAt
	switch {
	case o.Next == webhook.Queued && o.DueAt.IsZero():
		r.d.DueAt = m.now
	case o.Next == webhook.RetryScheduled:
		r.d.State, r.class = o.Next, webhook.Retry
	case o.Next.Final():
		r.d.State, r.d.DueAt, r.d.FinishedAt = o.Next, time.Time{}, m.now
		r.blocks = o.Next == webhook.DeadLetter && r.d.OrderingKey != "" && o.BehindDeadLetter != webhook.SkipDeadLetter
		r.holdsKey = o.BehindDeadLetter == webhook.HoldKey
	}
	r.dueAt = r.d.DueAt
	return webhook.Applied
}

// extend checks the answer for one lease and takes it over.
func (m *model) extend(ref webhook.LeaseRef, got webhook.OutcomeStatus) error {
	r, want := m.rows[ref.DeliveryID], webhook.Stale
	switch {
	case r == nil:
		want = webhook.Unknown
	case r.leased && r.token == ref.Token:
		if want = webhook.Applied; !r.due().After(m.now) {
			want = got // it ran out: the store's choice
		}
	}
	if got != want || got != webhook.Applied && got != webhook.Stale && r != nil {
		return fmt.Errorf("status of %s under token %d is %d, want %d", ref.DeliveryID, ref.Token, got, want)
	}
	if got == webhook.Applied {
		r.setDue(ref.Until)
	}
	return nil
}

// release releases a key and says whether something blocked it.
func (m *model) release(endpoint, key string) (blocked bool) {
	for _, r := range m.order {
		if r.blocks && r.d.EndpointID == endpoint && r.d.OrderingKey == key {
			r.blocks, blocked = false, true
		}
	}
	return blocked
}

// listed checks what Lanes answered. Lanes in which all waits behind an ordering key may be there or not.
func (m *model) listed(got []webhook.Lane) error {
	if !slices.IsSortedFunc(got, func(a, b webhook.Lane) int { return compareLanes(a.LaneID, b.LaneID) }) {
		return fmt.Errorf("lanes %v: not in ascending order", laneIDs(got))
	}
	sure, dues := map[webhook.LaneID]time.Time{}, map[webhook.LaneID][]time.Time{}
	for _, r := range m.order {
		if !r.waits() {
			continue
		}
		id := webhook.LaneID{EndpointID: r.d.EndpointID, Class: r.class}
		dues[id] = append(dues[id], r.due())
		if waits, _ := m.blocked(r); !waits && (sure[id].IsZero() || r.due().Before(sure[id])) {
			sure[id] = r.due()
		}
	}
	for _, l := range got {
		if !slices.ContainsFunc(dues[l.LaneID], l.Earliest.Equal) {
			return fmt.Errorf("lane %v: nothing in it is due at %v", l.LaneID, l.Earliest)
		}
		if first, ok := sure[l.LaneID]; ok && l.Earliest.After(first) {
			return fmt.Errorf("lane %v: Earliest is %v, want %v", l.LaneID, l.Earliest, first)
		}
		delete(sure, l.LaneID)
	}
	if len(sure) > 0 {
		return fmt.Errorf("lanes %v are missing", slices.Collect(maps.Keys(sure)))
	}
	return nil
}

func compareLanes(a, b webhook.LaneID) int {
	return cmp.Or(cmp.Compare(a.EndpointID, b.EndpointID), cmp.Compare(a.Class, b.Class))
}

// read checks a delivery as a query shows it.
func (m *model) read(got webhook.Delivery) error {
	r := m.rows[got.ID]
	if r == nil {
		return fmt.Errorf("%s is not there", got.ID)
	}
	want := r.d
	held, _ := m.held(r.d.EndpointID)
	waits, keyHeld := m.blocked(r)
	states := []webhook.State{r.d.State}
	switch {
	case r.d.State.Final():
	case r.leased && r.d.DueAt.After(m.now):
		states = []webhook.State{webhook.Delivering}
	case held || keyHeld:
		states = []webhook.State{webhook.Held}
	}
	if r.leased && !r.d.State.Final() && !r.d.DueAt.After(m.now) {
		states = append(states, webhook.Delivering)
	}
	if waits && !keyHeld && !r.d.State.Final() {
		states = append(states, webhook.Held) // behind a dead letter that only blocks
	}
	if !slices.Contains(states, got.State) {
		return fmt.Errorf("%s reads as %s, want %v: %s", got.ID, got.State, states, m.describe(got.ID))
	}
	want.State = got.State
	if !got.State.Final() {
		got.Reason, want.Reason = "", ""
	}
	if !sameButForZones(got, want) {
		return fmt.Errorf("%s reads as %+v, want %+v", got.ID, got, want)
	}
	return nil
}

// describe tells about a delivery in words.
func (m *model) describe(id string) string {
	r := m.rows[id]
	if r == nil {
		return "unknown"
	}
	waits, _ := m.blocked(r)
	held, _ := m.held(r.d.EndpointID)
	return fmt.Sprintf("endpoint %s key %q seq %d, %s, in its key only for its place %v, class %d, leased %v, due or leased until %v, token %d, behind a predecessor %v, endpoint held %v",
		r.d.EndpointID, r.d.OrderingKey, r.d.Sequence, r.d.State, r.over, r.class, r.leased, r.due().Sub(at(0)), r.token, waits, held)
}
