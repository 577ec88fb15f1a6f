package webhook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explanation is what happened to an event, as of Now. Its String tells it as a story; neither shows a secret.
type Explanation struct {
	Now        time.Time
	Event      Event // as it was sent; String shows neither payload nor header
	AcceptedAt time.Time
	ErasedAt   time.Time       // when payload and header were erased; zero: they were not
	Unreadable string          // why its header, and so the event, cannot be read and sent; "": it can
	Matched    int             // endpoints that it went to when it was accepted; 0: none subscribed to it
	Subscribed []string        // endpoints that subscribe to events like it now
	Forgotten  int             // of its deliveries, how many retention has forgotten
	Deliveries []DeliveryStory // in the order of their making
}

// DeliveryStory is what happened to one delivery, and what comes next.
type DeliveryStory struct {
	Delivery Delivery
	URL      string    // of its endpoint now, redacted; "": this process does not know the endpoint
	Attempts []Attempt // in the order of their making
	Wait     Wait      // why nothing is sent at this moment; "" in a final state
	Until    time.Time // when the wait ends by itself, as far as is known; zero: when something happens
	Behind   string    // with WaitKey and WaitBlocked: the delivery that it waits for
	Hold     string    // with WaitHold: its kind, such as HoldPaused
	Pace     Rate      // what the endpoint's health allows it now; zero: no bound
	Why      string    // why it is in its state, in words
	Next     string    // what comes next, in words; "" in a final state
}

// Wait is why a delivery is not being sent at the moment.
type Wait string

// The reasons for which a delivery waits.
const (
	WaitTurn       Wait = "turn"        // it is due: a running dispatcher takes it as soon as it has room, the rate allowing
	WaitTime       Wait = "time"        // its time has not come: it was scheduled, or an attempt failed
	WaitAttempt    Wait = "attempt"     // it is with a process, which tries it now or is about to
	WaitHold       Wait = "hold"        // its endpoint is on hold
	WaitVerify     Wait = "verify"      // its endpoint has not verified yet
	WaitRetryAfter Wait = "retry_after" // its endpoint asked for no request before a time
	WaitKey        Wait = "key"         // an earlier one of its ordering key is not finished
	WaitBlocked    Wait = "blocked"     // a dead letter blocks its ordering key
	WaitDeleted    Wait = "deleted"     // its endpoint is gone: it will be canceled
)

// explainMost bounds how many deliveries are explained.
const explainMost = 1000

// Explain tells what happened to an event at each endpoint and why, from when it was accepted to now, and what comes next. It
// reads the event, its deliveries (the first 1,000) and their attempts, and for each that waits what it waits for. [ErrNotFound]: there is no such
// event, its transaction has not committed, or it is forgotten.
func (d *Dispatcher) Explain(ctx context.Context, eventID string) (*Explanation, error) {
	if why := checkName(eventID, ""); why != "" {
		return nil, &FieldError{Op: "explain", Field: "eventID", Reason: why}
	}
	x, err := d.explain(ctx, eventID)
	if err != nil {
		return nil, opError(fmt.Sprintf("explain: event %q", eventID), notFoundOnly(err))
	}
	return x, nil
}

// notFoundOnly spares what a store adds to ErrNotFound.
func notFoundOnly(err error) error {
	if errors.Is(err, ErrNotFound) {
		return ErrNotFound
	}
	return err
}

func (d *Dispatcher) explain(ctx context.Context, eventID string) (*Explanation, error) {
	query, now, err := d.queryStore(ctx)
	if err != nil {
		return nil, err
	}
	rec, err := query.GetEvent(ctx, eventID)
	if err == nil && rec == nil {
		err = errMalformedAnswer
	}
	if err != nil {
		return nil, err
	}
	x := &Explanation{Now: now, Event: rec.Event, AcceptedAt: rec.CreatedAt, ErasedAt: rec.ErasedAt, Matched: rec.Deliveries}
	if rec.Unreadable != nil {
		x.Unreadable = rec.Unreadable.Error()
	}
	if err := d.health.read(ctx); err != nil {
		return nil, err
	}
	table, err := d.routes.table(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, rt := range table.match(&rec.Event) {
		if isReceived(eventID) {
			break // it goes to its inbox alone
		}
		x.Subscribed = append(x.Subscribed, rt.endpoint.ID)
	}
	req := &ListDeliveriesRequest{Now: now, EventID: eventID, Limit: explainMost}
	for len(x.Deliveries) < explainMost {
		res, err := query.ListDeliveries(ctx, req)
		if err == nil && res == nil {
			err = errMalformedAnswer
		}
		if err != nil {
			return nil, err
		}
		for i := range res.Deliveries {
			story, err := d.story(ctx, query, now, table, res.Deliveries[i])
			if err != nil {
				return nil, err
			}
			x.Deliveries = append(x.Deliveries, story)
		}
		if req.After = res.Next; req.After == "" {
			kept := 0
			for i := range x.Deliveries {
				if x.Deliveries[i].Delivery.Replay == "" {
					kept++
				}
			}
			x.Forgotten = max(0, x.Matched-kept)
			break
		}
	}
	return x, nil
}

// story explains one delivery.
func (d *Dispatcher) story(ctx context.Context, query QueryStore, now time.Time, table *routeTable, del Delivery) (DeliveryStory, error) {
	s := DeliveryStory{Delivery: del}
	var err error
	if s.Attempts, err = query.ListAttempts(ctx, del.ID); err != nil {
		return s, err
	}
	slices.SortStableFunc(s.Attempts, func(a, b Attempt) int { return cmp.Compare(a.Token, b.Token) })
	rt := table.byID[del.EndpointID]
	if rt != nil {
		s.URL = RedactURL(rt.endpoint.URL)
	}
	if del.State.Final() {
		s.ended()
		return s, nil
	}
	head := &KeyHead{}
	if del.OrderingKey != "" {
		if head, err = query.KeyHead(ctx, del.EndpointID, del.OrderingKey); err != nil {
			if !errors.Is(err, ErrNotFound) {
				return s, err
			}
			head = &KeyHead{}
		}
	}
	s.waits(now, head, rt, rt == nil && !table.deleted[del.EndpointID].IsZero())
	return s, nil
}

// ended tells why the delivery is in its final state.
func (s *DeliveryStory) ended() {
	d := &s.Delivery
	last := s.counted()
	switch {
	case d.State == Delivered && last != nil && last.Status == 0:
		s.Why = fmt.Sprintf("run %d of the handler succeeded, %s after it was accepted", last.Number, span(d.FinishedAt.Sub(d.CreatedAt)))
	case d.State == Delivered && last != nil:
		s.Why = fmt.Sprintf("attempt %d was answered %d, %s after it was accepted", last.Number, last.Status, span(d.FinishedAt.Sub(d.CreatedAt)))
	case d.State == Delivered:
		s.Why = "it was answered with success"
	default:
		s.Why = cmpOr(d.Reason, "no reason was given")
	}
}

// counted is the last attempt that was not late, or nil.
func (s *DeliveryStory) counted() *Attempt {
	for i := range slices.Backward(s.Attempts) {
		if !s.Attempts[i].Late {
			return &s.Attempts[i]
		}
	}
	return nil
}

// waits tells what an unfinished delivery waits for: the first thing that stands in its way.
func (s *DeliveryStory) waits(now time.Time, head *KeyHead, rt *route, deleted bool) {
	d := &s.Delivery
	var h Health
	if rt != nil {
		h = rt.healthNow(now)
		s.Pace = h.Pace
	}
	s.Why = d.Reason
	switch {
	case d.State == Delivering:
		s.Wait, s.Until = WaitAttempt, d.DueAt
		s.Why = cmpOr(s.Why, "a process has it")
		s.Next = fmt.Sprintf("attempt %d is under way or about to begin; if that process dies, another takes it over at %s", d.Attempts+1, clockTime(d.DueAt, now))
	case head.Blocked && head.DeliveryID != d.ID:
		s.Wait, s.Behind = WaitBlocked, head.DeliveryID
		s.Why = "dead letter " + head.DeliveryID + " blocks its ordering key"
		s.Next = "it goes on when the key is released (ReleaseKey) or the dead letter is sent again"
	case head.DeliveryID != "" && head.DeliveryID != d.ID:
		s.Wait, s.Behind = WaitKey, head.DeliveryID
		s.Why = "it comes after delivery " + head.DeliveryID + " of its ordering key"
		s.Next = fmt.Sprintf("it is number %d of its key, and number %d is not finished", d.Sequence, head.Sequence)
	case h.Hold != nil && h.Hold.Kind == HoldUnverified, h.Hold == nil && rt != nil && rt.isUnverified():
		s.Wait, s.Why = WaitVerify, "its endpoint has not shown yet that it wants what it gets"
		s.Next = "it goes out once the endpoint has verified (VerifyEndpoint)"
	case h.Hold != nil:
		s.Wait, s.Until, s.Hold = WaitHold, h.Hold.Until, h.Hold.Kind
		s.Why = "its endpoint is on hold (" + h.Hold.Kind + "): " + cmpOr(h.Hold.Reason, "no reason was given")
		s.Next = "it is kept until the endpoint is resumed (ResumeEndpoint)"
		if !s.Until.IsZero() {
			s.Next = "the hold ends at " + clockTime(s.Until, now)
		}
	case d.State == Held:
		s.Wait, s.Hold = WaitHold, HoldPaused
		s.Why = "its endpoint is on hold: " + cmpOr(d.Reason, "no reason was given")
		s.Next = "it is kept until the endpoint is resumed (ResumeEndpoint)"
	case rt != nil && rt.err != nil:
		s.Wait, s.Why = WaitTurn, "this process cannot send to its endpoint: "+rt.err.Error()
		s.Next = fmt.Sprintf("attempt %d as soon as a running dispatcher that can has room for it", d.Attempts+1)
	case strings.HasPrefix(d.EndpointID, InboxPrefix):
		s.due(now, h)
		s.Next = strings.ReplaceAll(s.Next, "a running dispatcher", "the running inbox")
	case deleted:
		s.Wait, s.Why, s.Next = WaitDeleted, "its endpoint was deleted", "it will be canceled"
	default:
		s.due(now, h)
	}
	if !d.ExpiresAt.IsZero() {
		s.Next += "; it expires at " + clockTime(d.ExpiresAt, now)
	}
}

// due tells when a delivery with nothing but time before it is sent.
func (s *DeliveryStory) due(now time.Time, h Health) {
	d := &s.Delivery
	attempt := fmt.Sprintf("attempt %d", d.Attempts+1)
	switch {
	case h.NotBefore.After(d.DueAt) && h.NotBefore.After(now):
		s.Wait, s.Until = WaitRetryAfter, h.NotBefore
		s.Why = cmpOr(d.Reason, "its endpoint asked for no request earlier")
		s.Next = attempt + " at " + clockTime(h.NotBefore, now) + ": the endpoint asked for no request earlier"
	case d.DueAt.After(now):
		s.Wait, s.Until = WaitTime, d.DueAt
		if d.Attempts == 0 {
			s.Why = cmpOr(d.Reason, "its time has not come")
		}
		s.Next = attempt + " at " + clockTime(d.DueAt, now)
	default:
		s.Wait = WaitTurn
		s.Why = cmpOr(d.Reason, "it is due since "+clockTime(d.DueAt, now))
		s.Next = attempt + " as soon as a running dispatcher has room for it"
	}
	if h.Pace.Events > 0 {
		s.Next += fmt.Sprintf(", at the pace that the endpoint's health allows (%.3g a second)", h.Pace.perSecond())
	}
	if s.URL == "" && !strings.HasPrefix(d.EndpointID, InboxPrefix) {
		s.Next += "; this process does not know the endpoint"
	}
}

// clockTime is t in words, with how far it is from now.
func clockTime(t, now time.Time) string {
	text := t.UTC().Format("2006-01-02 15:04:05 UTC")
	switch ahead := t.Sub(now); {
	case ahead >= time.Second:
		return text + " (in " + span(ahead) + ")"
	case ahead <= -time.Second:
		return text + " (" + span(-ahead) + " ago)"
	}
	return text
}

// span is a duration in words: the two greatest units that matter.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Hour:
		return d.Round(time.Second).String()
	case d < 48*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%d days", int(d.Round(24*time.Hour)/(24*time.Hour)))
}
