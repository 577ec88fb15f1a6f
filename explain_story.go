package webhook

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// String tells the story in lines of text, for people: no payload, header, answer, secret or query value is in it.
func (x *Explanation) String() string {
	var b strings.Builder
	b.WriteString("event " + x.Event.ID)
	if x.Event.Type != "" {
		fmt.Fprintf(&b, " (%s)", x.Event.Type)
	}
	if x.Event.Tenant != "" {
		fmt.Fprintf(&b, " of tenant %q", x.Event.Tenant)
	}
	if x.Event.OrderingKey != "" {
		fmt.Fprintf(&b, " with ordering key %q", x.Event.OrderingKey)
	}
	fmt.Fprintf(&b, " was accepted at %s\n", clockTime(x.AcceptedAt, x.Now))
	if x.Unreadable != "" {
		fmt.Fprintf(&b, "it cannot be read, and so not be sent: %s\n", x.Unreadable)
	}
	if !x.ErasedAt.IsZero() {
		fmt.Fprintf(&b, "its payload and header were erased at %s\n", clockTime(x.ErasedAt, x.Now))
	}
	switch {
	case x.Matched == 0 && len(x.Deliveries) == 0:
		b.WriteString("it matched no endpoint, so nothing was sent")
		if len(x.Subscribed) == 0 {
			b.WriteString("; none subscribes to such events now either\n")
		} else {
			b.WriteString("; such events go to " + few(x.Subscribed) + " now\n")
		}
	case x.Forgotten > 0:
		fmt.Fprintf(&b, "of its %d deliveries %d are forgotten: their time to be kept is over\n", x.Matched, x.Forgotten)
	}
	for i := range x.Deliveries {
		x.Deliveries[i].tell(&b, x.Now)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// oneLine keeps what others have said from looking like lines of the story.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, unicode.IsControl), " ")
}

// few names the first of IDs.
func few(ids []string) string {
	const most = 5
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return strings.Join(ids, ", ")
}

func (s *DeliveryStory) tell(b *strings.Builder, now time.Time) {
	d := &s.Delivery
	b.WriteString("to " + d.EndpointID)
	if s.URL != "" {
		b.WriteString(" at " + s.URL)
	}
	fmt.Fprintf(b, ": %s\n", d.State)
	for i := range s.Attempts {
		s.Attempts[i].tell(b, s.Delivery.CreatedAt)
	}
	if s.Why != "" {
		b.WriteString("  why: " + oneLine(s.Why) + "\n")
	}
	if s.Next != "" {
		b.WriteString("  next: " + s.Next + "\n")
	}
	if d.State.Final() && !d.FinishedAt.IsZero() {
		b.WriteString("  ended: " + clockTime(d.FinishedAt, now) + "\n")
	}
}

func (a *Attempt) tell(b *strings.Builder, accepted time.Time) {
	fmt.Fprintf(b, "  attempt %d, %s after it was accepted: ", a.Number, span(max(0, a.StartedAt.Sub(accepted))))
	switch {
	case a.Status != 0 && a.Error != "":
		fmt.Fprintf(b, "answered %d, and then %s", a.Status, a.Error)
	case a.Status != 0:
		fmt.Fprintf(b, "answered %d", a.Status)
	case a.Error == "": // only an inbox's
		b.WriteString("the handler succeeded")
	default:
		b.WriteString("no answer: " + cmpOr(a.Error, "for an unknown reason"))
	}
	fmt.Fprintf(b, " within %s", span(a.Duration))
	if a.Detail != "" {
		b.WriteString(" (" + oneLine(redactURLs(a.Detail)) + ")")
	}
	if a.Late {
		b.WriteString("; too late to count, another process had taken over")
	} else if !a.NextAt.IsZero() {
		fmt.Fprintf(b, "; next %s later", span(a.NextAt.Sub(a.StartedAt)))
	}
	b.WriteByte('\n')
}
