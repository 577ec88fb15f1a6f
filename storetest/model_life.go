package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/signalpost/webhook"
)

// endable are the rows that a request may end now, in the order in which it ends them. Those that an earlier request met under a
// lease that has not ended by the clock may be left out by one for what has expired.
func (m *model) endable(req *webhook.EndRequest) (rows []*mrow) {
	for _, r := range m.order {
		meant := r.d.EventID == req.EventID || r.d.ID == req.DeliveryID || r.d.EndpointID == req.EndpointID ||
			req.Expired && !r.d.ExpiresAt.IsZero() && !r.d.ExpiresAt.After(m.now)
		if meant && !r.d.State.Final() && (req.Leased || !r.leased || !r.d.DueAt.After(m.now)) {
			rows = append(rows, r)
		}
	}
	slices.SortStableFunc(rows, func(a, b *mrow) int { return endKey(req, a).Compare(endKey(req, b)) })
	return rows
}

// endKey is what a request goes by: the time by which it is the turn of r.
func endKey(req *webhook.EndRequest, r *mrow) time.Time {
	switch {
	case req.Expired:
		return r.d.ExpiresAt
	case req.EndpointID != "":
		return r.d.DueAt
	}
	return time.Time{}
}

// ended checks the answer to a request and takes it over. It returns what is wrong.
func (m *model) ended(req *webhook.EndRequest, res *webhook.EndResult) error {
	may := m.endable(req)
	must := slices.DeleteFunc(slices.Clone(may), func(r *mrow) bool { return req.Expired && r.putOff.After(m.now) })
	most := cmp.Or(req.Limit, 500)
	if req.EndpointID != "" {
		most = min(most, req.Oldest)
	}
	if err := m.found(req, res); err != nil {
		return err
	}
	switch got := len(res.Ended); {
	case got > most:
		return fmt.Errorf("ended %d with a limit of %d", got, most)
	case got < min(most, len(must)) && !res.More:
		return fmt.Errorf("ended %d of %d without More", got, min(most, len(must)))
	case got < len(must) && !res.More && (req.EndpointID == "" || got < req.Oldest):
		return fmt.Errorf("%d left to end without More", len(must)-got)
	case got == len(may) && res.More && !req.Expired:
		return fmt.Errorf("it says More, and nothing is left to end")
	}
	var last time.Time
	done := map[*mrow]bool{}
	for _, d := range res.Ended {
		r := m.rows[d.ID]
		if r == nil || !slices.Contains(may, r) || done[r] {
			return fmt.Errorf("ended %s: %s", d.ID, m.describe(d.ID))
		}
		if endKey(req, r).Before(last) {
			return fmt.Errorf("ended %s: not in its turn", d.ID)
		}
		last, done[r] = endKey(req, r), true
		if req.EndpointID != "" {
			last = r.dueAt // what is or was leased has its turn by this, or by its lease's end
		}
	}
	for _, r := range must {
		if endKey(req, r).Before(last) && !done[r] {
			return fmt.Errorf("left out %s, whose turn was earlier", r.d.ID)
		}
	}
	for _, d := range res.Ended {
		if r := m.end(req, m.rows[d.ID]); !sameButForZones(d, r.d) {
			return fmt.Errorf("ended as %+v, want %+v", d, r.d)
		}
	}
	if req.Expired {
		m.putOff()
	}
	return m.woken(res.Woken)
}

// found checks how many deliveries there are said to be.
func (m *model) found(req *webhook.EndRequest, res *webhook.EndResult) error {
	want := 0
	for _, r := range m.order {
		if r.d.EventID == req.EventID || r.d.ID == req.DeliveryID {
			want++
		}
	}
	if res.Found != want {
		return fmt.Errorf("says Found %d, want %d", res.Found, want)
	}
	return nil
}

// end ends a row.
func (m *model) end(req *webhook.EndRequest, r *mrow) *mrow {
	due := r.d.DueAt
	if fenced := r.leased && due.After(m.now); !fenced && due.After(m.now) {
		due = m.now
	}
	r.leased, r.over, r.overDue = false, r.d.OrderingKey != "", due
	if due.Before(r.dueAt) {
		r.dueAt = due
	}
	r.d.State, r.d.Reason, r.d.DueAt, r.d.FinishedAt = req.Next, req.Reason, time.Time{}, m.now
	return r
}

// putOff remembers until when what has expired is leased.
func (m *model) putOff() {
	for _, r := range m.order {
		if !r.d.State.Final() && r.leased && r.d.DueAt.After(m.now) && !r.d.ExpiresAt.IsZero() && !r.d.ExpiresAt.After(m.now) && !r.putOff.After(m.now) {
			r.putOff = r.d.DueAt
		}
	}
}

// woken checks that in each lane something is due at the time given.
func (m *model) woken(lanes []webhook.Lane) error {
	for _, l := range lanes {
		if !slices.ContainsFunc(m.order, func(r *mrow) bool {
			return r.waits() && r.d.EndpointID == l.EndpointID && r.class == l.Class && r.due().Equal(l.Earliest)
		}) {
			return fmt.Errorf("woken lane %v: nothing in it is due at %v", l.LaneID, l.Earliest)
		}
	}
	return nil
}

// backlog checks what is said to wait for one endpoint; nil: that it is left out.
func (m *model) backlog(endpoint string, count int, got *webhook.EndpointBacklog) error {
	unfinished, blocked := 0, 0
	for _, r := range m.order {
		if r.d.EndpointID == endpoint && !r.d.State.Final() {
			unfinished++
		}
		if r.d.EndpointID == endpoint && r.blocks {
			blocked++
		}
	}
	switch {
	case got == nil && unfinished+blocked > 0:
		return fmt.Errorf("%s is left out: %d unfinished, %d blocked keys", endpoint, unfinished, blocked)
	case got == nil:
		return nil
	case unfinished+blocked == 0:
		return fmt.Errorf("%s has nothing, and is there", endpoint)
	case got.Waiting != min(unfinished, count):
		return fmt.Errorf("%s: Waiting is %d, want %d of %d", endpoint, got.Waiting, min(unfinished, count), unfinished)
	case got.Blocked != blocked:
		return fmt.Errorf("%s: Blocked is %d, want %d", endpoint, got.Blocked, blocked)
	}
	return m.ages(endpoint, got)
}

// ages checks since when deliveries of an endpoint are said to wait. What is over may count, and what waits behind a predecessor may
// count into either.
func (m *model) ages(endpoint string, got *webhook.EndpointBacklog) error {
	var due, kept []time.Time // that may be named
	for _, r := range m.order {
		if r.d.EndpointID != endpoint || !r.waits() {
			continue
		}
		at := r.due()
		isDue := !at.After(m.now)
		waits, _ := m.blocked(r)
		if isDue {
			due = append(due, at)
		}
		if waits {
			kept = append(kept, at)
		}
		if r.over || !isDue {
			continue
		}
		named := !got.OldestDue.IsZero() && !got.OldestDue.After(at)
		if waits {
			named = named || !got.OldestKept.IsZero() && !got.OldestKept.After(at)
		}
		if !named {
			return fmt.Errorf("%s: %s is due since %v, got OldestDue %v and OldestKept %v", endpoint, r.d.ID, at, got.OldestDue, got.OldestKept)
		}
	}
	if !got.OldestDue.IsZero() && !slices.ContainsFunc(due, got.OldestDue.Equal) {
		return fmt.Errorf("%s: nothing is due since %v", endpoint, got.OldestDue)
	}
	if !got.OldestKept.IsZero() && !slices.ContainsFunc(kept, got.OldestKept.Equal) {
		return fmt.Errorf("%s: nothing that waits for its key is due at %v", endpoint, got.OldestKept)
	}
	return nil
}

// blockedKeys are the keys of an endpoint that wait behind a dead letter, as they should be listed.
func (m *model) blockedKeys(endpoint string) (keys []webhook.BlockedKey) {
	for _, r := range m.order {
		if r.blocks && r.d.EndpointID == endpoint {
			keys = append(keys, webhook.BlockedKey{EndpointID: endpoint, OrderingKey: r.d.OrderingKey, DeliveryID: r.d.ID, Held: r.holdsKey, Since: r.d.FinishedAt})
		}
	}
	slices.SortStableFunc(keys, func(a, b webhook.BlockedKey) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.OrderingKey, b.OrderingKey))
	})
	return keys
}

// opEnd ends some deliveries: of an event, one, what has expired, or the oldest of an endpoint.
func (w *walk) opEnd() {
	life, ok := w.h.Store.(webhook.LifeStore)
	if !ok || len(w.m.order) == 0 {
		return
	}
	req := &webhook.EndRequest{Now: w.m.now, Leased: w.chance(2), Next: webhook.Canceled, Reason: fmt.Sprintf("end %x", w.id%256)}
	one := w.m.order[w.r.IntN(len(w.m.order))]
	switch w.r.IntN(4) {
	case 0:
		req.EventID = one.d.EventID
	case 1:
		req.DeliveryID = one.d.ID
	case 2:
		req.Expired, req.Next = true, webhook.Expired
	case 3:
		req.EndpointID, req.Oldest, req.Next = one.d.EndpointID, 1+w.r.IntN(4), webhook.Expired
	}
	if w.chance(2) {
		req.Limit = 1 + w.r.IntN(3)
	}
	for range 1 + len(w.m.order) {
		w.note("End %+v", *req)
		res, err := life.End(w.ctx, req)
		w.ok("End", err)
		w.log[len(w.log)-1] += fmt.Sprintf(" gives %d, more %v", len(res.Ended), res.More)
		w.try("End", w.m.ended(req, res))
		if !res.More || w.chance(3) {
			return
		}
		req.Oldest -= len(res.Ended)
		if req.EndpointID != "" && req.Oldest < 1 {
			return
		}
	}
	w.failf("End says More without end")
}

// opBacklog compares what waits with the model.
func (w *walk) opBacklog() {
	life, ok := w.h.Store.(webhook.LifeStore)
	if !ok {
		return
	}
	count := w.r.IntN(6)
	w.note("Backlog, count %d", count)
	got := w.backlog(webhook.BacklogRequest{Now: w.m.now, Count: count, Limit: 1 + w.r.IntN(3)})
	for _, ep := range walkEndpoints {
		i := slices.IndexFunc(got, func(b webhook.EndpointBacklog) bool { return b.EndpointID == ep })
		if i < 0 {
			w.try("Backlog", w.m.backlog(ep, count, nil))
		} else {
			w.try("Backlog", w.m.backlog(ep, count, &got[i]))
		}
		res, err := life.BlockedKeys(w.ctx, &webhook.BlockedKeysRequest{EndpointID: ep})
		w.ok("BlockedKeys", err)
		want := w.m.blockedKeys(ep)
		w.same("blocked keys of "+ep, len(res.Keys), len(want))
		for i := range want {
			w.sameBlocked(res.Keys[i], want[i])
		}
	}
}
