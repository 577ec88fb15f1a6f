package webhook

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// How old a count may be.
const (
	countAge     = time.Second            // while less than half of the bound waits
	countAgeNear = 100 * time.Millisecond // beyond that
	countAgeFull = 10 * time.Millisecond  // when it is full, or this process alone has sent a part of the bound since
	countPart    = 8                      // that part: an eighth
	countMust    = 4                      // a process sends no more than that part, a quarter, without a count: then sends wait for one
	countRest    = 20                     // times what a count took is the least age at which it is made anew
)

// BacklogError tells whose backlog is full. It wraps [ErrBacklogFull].
type BacklogError struct {
	EndpointID string // "": the bound is the tenant's
	Tenant     string // of the event
	Waiting    int    // deliveries that wait, as far as this process knows
	New        int    // those that were to join them
	Limit      int    // deliveries that may wait
}

// Error says how many wait, how many may, and what says so.
func (e *BacklogError) Error() string {
	who, by := fmt.Sprintf("tenant %q", e.Tenant), "TenantPolicy.MaxBacklog"
	if e.EndpointID != "" {
		who, by = fmt.Sprintf("endpoint %q", e.EndpointID), "Endpoint.MaxBacklog"
	}
	more := ""
	if e.New > 1 {
		more = fmt.Sprintf(" and gets %d more", e.New)
	}
	return fmt.Sprintf("webhook: send: %s has %d deliveries waiting%s, allowed %d (%s)", who, e.Waiting, more, e.Limit, by)
}

// Unwrap gives ErrBacklogFull.
func (e *BacklogError) Unwrap() error { return ErrBacklogFull }

// backlogs keeps endpoints and tenants within their bounds. Sends look at gauges in memory: what the last count found and what this process
// has sent since. Counts are made in the background, for gauges that were looked at. A send waits for one only
// where there has been none yet, or before it is refused.
type backlogs struct {
	d     *Dispatcher
	store LifeStore     // nil: the store has none
	turn  chan struct{} // one count at a time; a channel, because it is held while the store is asked

	mu     sync.Mutex
	gauges map[gaugeID]*gauge
	resume time.Time // when a count may be tried again after one failed

	nextTrim time.Time // upkeep's own
}

// gaugeID names an endpoint, or, with "" for that, a tenant.
type gaugeID struct{ endpoint, tenant string }

// gauge is what is known of a backlog. Its fields belong to backlogs.mu.
type gauge struct {
	bound   int
	counted int           // by the last count
	sent    int           // by this process since that began
	open    int           // being sent by this process
	at      time.Time     // when the last count began; zero: there was none
	took    time.Duration // how long it took
	used    time.Time     // by a send
	fresh   bool          // not used since the last count
	wanted  int           // what a send since the last count would have made it
}

// waiting is how many there are, as far as is known.
func (g *gauge) waiting() int { return g.counted + g.sent + g.open }

// stale reports whether the count is too old to go by.
func (g *gauge) stale(now time.Time) bool {
	if g.at.IsZero() || g.overdue(0) {
		return true
	}
	age := countAge
	switch waiting := max(g.waiting(), g.wanted); {
	case waiting >= g.bound, g.sent+g.open > g.bound/countPart:
		age = countAgeFull
	case waiting >= g.bound/2:
		age = countAgeNear
	}
	return now.Sub(g.at) >= max(age, countRest*g.took)
}

// overdue reports whether this process would have sent too much since the last count, with n more.
func (g *gauge) overdue(n int) bool { return g.sent+g.open+n > max(g.bound/countMust, 1) }

// admission is the room that a call takes of a backlog.
type admission struct {
	id    gaugeID
	bound int
	n     int
	spare int    // that are not to be taken
	g     *gauge // once it is taken
}

func newBacklogs(d *Dispatcher) *backlogs {
	b := &backlogs{d: d, turn: make(chan struct{}, 1), gauges: make(map[gaugeID]*gauge)}
	b.store, _ = d.store.(LifeStore)
	return b
}

// check says what is wrong with a bound.
func (b *backlogs) check(bound int) string {
	if bound > 0 && b.store == nil {
		return fmt.Sprintf("is %d, but %v", bound, errNoLife)
	}
	return ""
}

// admit takes the room that a call's deliveries need, of their endpoints and of their tenants, all or none. It is given back by
// settle. Within a caller's transaction it never asks the store: a pool of one connection would not have another.
func (b *backlogs) admit(ctx context.Context, call *sendCall, inTx bool) error {
	room, err := wanted(call)
	if len(room) == 0 || err != nil {
		return err
	}
	call.room = room
	if b.store == nil {
		call.room = nil
		return errNoLife
	}
	for asked := inTx; ; asked = true {
		look, unknown, full := b.enter(call.room)
		if full == nil && !unknown || asked {
			if look {
				b.countSoon()
			}
			if full != nil {
				call.room = nil
				return full
			}
			return nil
		}
		if full == nil {
			b.leave(call.room, false)
		}
		if err := b.countNow(ctx); err != nil && ctx.Err() != nil {
			call.room = nil
			return ctx.Err()
		}
	}
}

// wanted lists the room that a call needs where there is a bound and a full backlog refuses. The error is a [*FieldError] for a tenant's
// policy that says nothing one can do: no bound at all would go unnoticed until it is needed.
func wanted(call *sendCall) (room []admission, err error) {
	var at map[gaugeID]int
	add := func(id gaugeID, bound, n int) {
		if i, ok := at[id]; ok {
			room[i].n += n
			return
		}
		if at == nil {
			at = make(map[gaugeID]int)
		}
		at[id] = len(room)
		room = append(room, admission{id: id, bound: bound, n: n})
	}
	for i := range call.events {
		routes := call.events[i].routes
		for _, rt := range routes {
			if ep := &rt.endpoint; ep.MaxBacklog > 0 && ep.WhenFull == RefuseWhenFull {
				add(gaugeID{endpoint: ep.ID, tenant: ep.Tenant}, ep.MaxBacklog, 1)
			}
		}
		if len(routes) == 0 {
			continue
		}
		switch p := routes[0].tenant.policy(); {
		case p.WhenFull < RefuseWhenFull || p.WhenFull > ExpireOldest:
			return nil, &FieldError{Op: "send", Field: "TenantPolicy.WhenFull", Reason: fmt.Sprintf("%d of tenant %q is no FullPolicy", p.WhenFull, routes[0].endpoint.Tenant)}
		case p.MaxBacklog > 0 && p.WhenFull == RefuseWhenFull:
			add(gaugeID{tenant: routes[0].endpoint.Tenant}, p.MaxBacklog, len(routes))
		}
	}
	return room, nil
}

// enter takes room, or tells what is full. look: a count would be worth its while; unknown: there has been none of one of them, or
// none for too long.
func (b *backlogs) enter(room []admission) (look, unknown bool, full error) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range room {
		w := &room[i]
		g := b.gauges[w.id]
		if g == nil {
			g = &gauge{}
			b.gauges[w.id] = g
		}
		if g.bound != w.bound { // it may not have been counted for long, or only up to the old one
			g.bound, g.at = w.bound, time.Time{}
		}
		w.g, g.used, g.fresh = g, now, false
		g.wanted = max(g.wanted, g.waiting()+w.n)
		over := !g.at.IsZero() && g.waiting()+w.n > w.bound-w.spare
		if over && full == nil {
			full = &BacklogError{EndpointID: w.id.endpoint, Tenant: w.id.tenant, Waiting: g.waiting(), New: w.n, Limit: w.bound}
		}
		look = look || g.stale(now)
		unknown = unknown || g.at.IsZero() || g.overdue(w.n)
	}
	if full == nil {
		for i := range room {
			room[i].g.open += room[i].n
		}
	}
	return look, unknown, full
}

// leave gives room back; stored says that what it was taken for waits in the store now, or may.
func (b *backlogs) leave(room []admission, stored bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range room {
		g := room[i].g
		g.open -= room[i].n
		if stored {
			g.sent += room[i].n
		}
	}
}

// settle ends what admit began, once the call is committed or has failed. What is not known to have failed counts until the next count.
func (b *backlogs) settle(call *sendCall, err error) {
	if len(call.room) > 0 {
		b.leave(call.room, err == nil || errors.Is(err, ErrOutcomeUnknown))
		call.room = nil
	}
}
