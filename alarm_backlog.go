package webhook

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// BacklogOptions are the argument of [Dispatcher.Backlog]. nil and zero mean the defaults.
type BacklogOptions struct {
	Endpoints []string // IDs; nil: all
	Count     int      // how far to count the deliveries of each; zero: tell ages only
}

// Backlog is what waits, for all endpoints that were asked for together and for each.
type Backlog struct {
	// OldestDue is how long the delivery is due that is due longest and not being sent; zero: none is. What is for
	// endpoints that nothing may be sent to now, as those on hold, does not count here.
	OldestDue time.Duration

	Waiting   int               // unfinished deliveries, those being sent too; 0 when not counted
	AtLeast   bool              // there are more than Waiting: the count of an endpoint reached BacklogOptions.Count
	Endpoints []EndpointBacklog // those with something waiting, in ascending order of ID
}

// Backlog tells since when deliveries wait and, if asked to, how many. It writes nothing; it costs the store a few probes an endpoint that
// has a backlog, and as many entries of an index as are counted. The store must be a [LifeStore].
func (d *Dispatcher) Backlog(ctx context.Context, opts *BacklogOptions) (*Backlog, error) {
	if opts == nil {
		opts = &BacklogOptions{}
	}
	if opts.Count < 0 {
		return nil, &FieldError{Op: "backlog", Field: "Count", Reason: fmt.Sprintf("is %d, want 0 (do not count) or more", opts.Count)}
	}
	b, err := d.backlogs.read(ctx, opts)
	if err != nil {
		return nil, opError("backlog", err)
	}
	return b, nil
}

func (b *backlogs) read(ctx context.Context, opts *BacklogOptions) (*Backlog, error) {
	if b.store == nil {
		return nil, errNoLife
	}
	if _, err := b.d.routes.table(ctx, nil); err != nil { // for what is on hold
		return nil, err
	}
	now, err := b.d.clock.now(ctx)
	if err != nil {
		return nil, err
	}
	all := &Backlog{}
	if opts.Endpoints != nil {
		ids := slices.Compact(slices.Sorted(slices.Values(opts.Endpoints)))
		err := b.each(ctx, now, opts.Count, ids, func(e *EndpointBacklog) { all.add(b.d, e, opts.Count, now) })
		return all, err
	}
	for req := (&BacklogRequest{Now: now, Count: opts.Count}); ; {
		res, err := b.page(ctx, req)
		if err != nil {
			return nil, err
		}
		for i := range res.Endpoints {
			if !b.d.serves(res.Endpoints[i].EndpointID) {
				continue
			}
			all.add(b.d, &res.Endpoints[i], opts.Count, now)
		}
		if req.After = res.Next; req.After == "" {
			return all, nil
		}
	}
}

// add counts an endpoint in.
func (all *Backlog) add(d *Dispatcher, e *EndpointBacklog, count int, now time.Time) {
	all.Endpoints = append(all.Endpoints, *e)
	all.Waiting += e.Waiting
	all.AtLeast = all.AtLeast || count > 0 && e.Waiting >= count
	if _, blocked := d.routes.lookup(e.EndpointID).blocked(now); !blocked && !e.OldestDue.IsZero() {
		all.OldestDue = max(all.OldestDue, now.Sub(e.OldestDue))
	}
}

// page asks about some of all endpoints. Of a store that cannot say more, its lanes tell what is due.
func (b *backlogs) page(ctx context.Context, req *BacklogRequest) (*BacklogResult, error) {
	if b.store == nil {
		return b.lanesPage(ctx, req)
	}
	res, err := b.store.Backlog(ctx, req)
	if err == nil && (res == nil || res.Next != "" && res.Next <= req.After) {
		err = errMalformedAnswer
	}
	return res, err
}

// lanesPage makes an answer of what Lanes tells.
func (b *backlogs) lanesPage(ctx context.Context, req *BacklogRequest) (*BacklogResult, error) {
	res := &BacklogResult{}
	for after, more := (LaneID{req.After, Retry}), true; more; {
		lanes, err := b.d.store.Lanes(ctx, &LanesRequest{After: after, Limit: countPage})
		if err == nil && lanes == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return nil, err
		}
		for _, l := range lanes.Lanes {
			res.addLane(l, req.Now)
		}
		after = lanes.Next
		more = after.EndpointID != "" && after.Class == Fresh // the endpoint's other lane is on the next page
		res.Next = after.EndpointID
	}
	return res, nil
}

// addLane counts in what is due in a lane.
func (res *BacklogResult) addLane(l Lane, now time.Time) {
	if l.Earliest.After(now) {
		return
	}
	if n := len(res.Endpoints); n > 0 && res.Endpoints[n-1].EndpointID == l.EndpointID {
		if e := &res.Endpoints[n-1]; l.Earliest.Before(e.OldestDue) {
			e.OldestDue = l.Earliest
		}
		return
	}
	res.Endpoints = append(res.Endpoints, EndpointBacklog{EndpointID: l.EndpointID, OldestDue: l.Earliest})
}
