package webhook_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/memstore"
)

// halting is a store that stands still around what it writes about endpoints.
type halting struct {
	*memstore.Store
	before, after time.Duration // of endpoints
	states        time.Duration // before a state is put
}

func (h *halting) around(write func() error) error {
	time.Sleep(h.before)
	err := write()
	time.Sleep(h.after)
	return err
}

func (h *halting) PutEndpoint(ctx context.Context, ep webhook.Endpoint) error {
	return h.around(func() error { return h.Store.PutEndpoint(ctx, ep) })
}

func (h *halting) UpdateEndpoint(ctx context.Context, id string, change func(ep *webhook.Endpoint) error) error {
	return h.around(func() error { return h.Store.UpdateEndpoint(ctx, id, change) })
}

func (h *halting) DeleteEndpoint(ctx context.Context, id string) error {
	return h.around(func() error { return h.Store.DeleteEndpoint(ctx, id) })
}

func (h *halting) PutStates(ctx context.Context, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
	time.Sleep(h.states)
	return h.Store.PutStates(ctx, req)
}

// verifyChanges are the ways in which an endpoint becomes one that has to verify, done by a process that runs nothing.
var verifyChanges = []struct {
	name    string
	was     webhook.VerifyMode
	replace bool // by another one of the same address
	do      func(ctx context.Context, d *webhook.Dispatcher, ep webhook.Endpoint) error
}{
	{"update", webhook.VerifyPing, false, func(ctx context.Context, d *webhook.Dispatcher, ep webhook.Endpoint) error {
		return d.UpdateEndpoint(ctx, ep.ID, func(ep *webhook.Endpoint) error { ep.URL += "/new"; return nil })
	}},
	{"put", webhook.VerifyPing, false, func(ctx context.Context, d *webhook.Dispatcher, ep webhook.Endpoint) error {
		ep.URL += "/new"
		return d.PutEndpoint(ctx, ep)
	}},
	{"put for the first time with Verify", "", false, func(ctx context.Context, d *webhook.Dispatcher, ep webhook.Endpoint) error {
		ep.URL, ep.Verify = ep.URL+"/new", webhook.VerifyPing
		return d.PutEndpoint(ctx, ep)
	}},
	{"more is asked of the same address", webhook.VerifyPing, true, func(ctx context.Context, d *webhook.Dispatcher, ep webhook.Endpoint) error {
		ep.Verify = webhook.VerifyChallenge
		return d.PutEndpoint(ctx, ep)
	}},
	{"there and back, and there", webhook.VerifyPing, false, func(ctx context.Context, d *webhook.Dispatcher, ep webhook.Endpoint) error {
		moved := ep
		moved.URL += "/new"
		return errors.Join(d.PutEndpoint(ctx, moved), d.PutEndpoint(ctx, ep), d.PutEndpoint(ctx, moved))
	}},
	{"deleted and put again", webhook.VerifyPing, true, func(ctx context.Context, d *webhook.Dispatcher, ep webhook.Endpoint) error {
		return errors.Join(d.DeleteEndpoint(ctx, ep.ID), d.PutEndpoint(ctx, ep))
	}},
}

// However long it takes from one write to the next, and whatever a running process makes of what it knows meanwhile: nothing goes to an address that has not
// verified, the hold stands from the change on until it has, and nothing that waits is lost.
func TestNothingGoesWhereNothingVerified(t *testing.T) {
	const long = 3 * time.Second
	for _, change := range verifyChanges {
		for halt, on := range map[string]halting{
			"nowhere": {}, "before endpoints": {before: long}, "after endpoints": {after: long}, "before states": {states: long},
			"a little": {before: 300 * time.Millisecond, after: 200 * time.Millisecond, states: 400 * time.Millisecond},
		} {
			t.Run(change.name+"/"+halt, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					rc := &challenged{answer: func(c string) (int, string) { return 200, c }}
					r := &running{store: memstore.New()}
					r.start(t, webhook.DispatcherOptions{Transport: rc})
					ep := verified(t, "acme", change.was)
					put(t, r.Dispatcher, ep)
					time.Sleep(5 * time.Second)
					r.send(t, webhook.Event{Type: "a"})
					time.Sleep(time.Second)
					rc.refuse(404)
					on.Store = r.store
					d, err := webhook.NewDispatcher(&on, &webhook.DispatcherOptions{Transport: rc, Logger: quiet()})
					if err != nil {
						t.Fatal(err)
					}
					ids := sendOn(t, r, func() {
						if err := change.do(t.Context(), d, ep); err != nil {
							t.Error(err)
						}
					})
					if change.name == "deleted and put again" {
						ids = ids[len(ids)-1:] // the others may be for the one that was deleted
					}
					var was []string
					for i := range 500 {
						if i == 100 { // all know
							_, was = rc.counts()
							ids = append(ids, r.send(t, webhook.Event{Type: "a"}))
						}
						h := r.hold(t, "acme")
						if change.name != "deleted and put again" && (h == nil || h.Kind != webhook.HoldUnverified) {
							t.Fatalf("got %+v, want a hold from the change on", h)
						}
						time.Sleep(10 * time.Millisecond)
					}
					_, got := rc.counts()
					for i, path := range got {
						if strings.HasSuffix(path, "/new") || change.replace && i >= len(was) {
							t.Errorf("request %d of %d went to %s, which has not verified", i, len(got), path)
						}
					}
					rc.refuse(200)
					if err := d.VerifyEndpoint(t.Context(), "acme"); err != nil {
						t.Error(err)
					}
					time.Sleep(2 * time.Minute)
					for _, id := range ids {
						if del := r.delivery(t, id); del.State != webhook.Delivered {
							t.Errorf("%+v", del)
						}
					}
				})
			})
		}
	}
}

// refuse has the receiver answer verifications with a status, and the challenge.
func (c *challenged) refuse(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer = func(challenge string) (int, string) { return status, challenge }
}

// sendOn sends ten events a second until do has returned, and one more.
func sendOn(t *testing.T, r *running, do func()) (ids []string) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	for {
		select {
		case <-done:
			return append(ids, r.send(t, webhook.Event{Type: "a"}))
		case <-time.After(100 * time.Millisecond):
			if _, err := r.store.GetEndpoint(t.Context(), "acme"); err == nil { // else it matches nothing
				ids = append(ids, r.send(t, webhook.Event{Type: "a"}))
			}
		}
	}
}

// lifting is a store in which something happens right before a hold is lifted, once.
type lifting struct {
	*memstore.Store
	do chan func()
}

func (l *lifting) PutStates(ctx context.Context, req *webhook.PutStatesRequest) (*webhook.PutStatesResult, error) {
	if req.States[0].Unhold {
		select {
		case do := <-l.do:
			do()
		default:
		}
	}
	return l.Store.PutStates(ctx, req)
}

// Who is about to lift a hold, because the endpoint is verified as it is, does not when it is changed at that moment: also where the change finds the
// very hold that it would put.
func TestLiftingAHoldLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &challenged{answer: func(string) (int, string) { return 200, "" }}
		r := &running{store: memstore.New()}
		on := &lifting{r.store, make(chan func(), 1)}
		r.on = on
		r.start(t, webhook.DispatcherOptions{Transport: rc})
		d, err := webhook.NewDispatcher(r.store, &webhook.DispatcherOptions{Transport: rc, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		ep := verified(t, "acme", webhook.VerifyPing)
		put(t, d, ep)
		time.Sleep(5 * time.Second)
		rc.refuse(404)
		moved := ep
		moved.URL += "/new"
		put(t, d, moved)
		done := make(chan struct{})
		on.do <- func() {
			defer close(done)
			put(t, d, moved)
		}
		if err := r.store.PutEndpoint(t.Context(), ep); err != nil { // so that the hold has to be lifted
			t.Fatal(err)
		}
		<-done
		for range 300 {
			time.Sleep(10 * time.Millisecond)
			if h := r.hold(t, "acme"); h == nil || h.Kind != webhook.HoldUnverified {
				t.Fatalf("got %+v, want the hold of the change", h)
			}
		}
	})
}

// An answer that comes from an address which is not the endpoint's any more says nothing about the new one.
func TestVerifiedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &challenged{}
		store := memstore.New()
		d, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Transport: rc, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		ep := verified(t, "acme", webhook.VerifyPing)
		rc.answer = func(string) (int, string) {
			ep.URL += "/new"
			put(t, d, ep)
			return 200, ""
		}
		put(t, d, ep)
		if err := d.VerifyEndpoint(t.Context(), "acme"); err == nil || !strings.HasSuffix(err.Error(), "it was changed meanwhile; try again") {
			t.Errorf("got %v", err)
		}
		if holds, err := store.ListHolds(t.Context(), time.Now()); err != nil || len(holds) != 1 {
			t.Errorf("holds %+v, %v", holds, err)
		}
		rc.refuse(200)
		if err := d.VerifyEndpoint(t.Context(), "acme"); err != nil {
			t.Error(err)
		}
		if holds, err := store.ListHolds(t.Context(), time.Now()); err != nil || len(holds) != 0 {
			t.Errorf("holds %+v, %v", holds, err)
		}
	})
}

// A process that asks the store seldom sends nothing to the successor of an endpoint that it knew as verified.
func TestSuccessorVerifiesAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rc := &challenged{answer: func(string) (int, string) { return 200, "" }}
		r := &running{store: memstore.New()}
		r.start(t, webhook.DispatcherOptions{Transport: rc, Poll: 10 * time.Second})
		d, err := webhook.NewDispatcher(r.store, &webhook.DispatcherOptions{Transport: rc, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		ep := verified(t, "acme", webhook.VerifyPing)
		put(t, r.Dispatcher, ep)
		time.Sleep(12 * time.Second)
		rc.refuse(404)
		if err := d.DeleteEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		put(t, d, ep)
		var ids []string
		for range 60 {
			time.Sleep(time.Second)
			ids = append(ids, r.send(t, webhook.Event{Type: "a"}))
		}
		if asked, got := rc.counts(); len(asked) < 2 || len(got) != 0 {
			t.Errorf("asked %d times, %d sent", len(asked), len(got))
		}
		rc.refuse(200)
		time.Sleep(time.Hour)
		for _, id := range ids {
			if del := r.delivery(t, id); del.State != webhook.Delivered {
				t.Errorf("%+v", del)
			}
		}
	})
}
