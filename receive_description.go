package webhook

import "context"

// DescriptionFromContext returns what the signed part of the request tells of the event, its time included, for a handler behind [Middleware];
// elsewhere false. In an [Inbox]'s handler its OrderingKey is the event's.
func DescriptionFromContext(ctx context.Context) (Description, bool) {
	x := receivedFrom(ctx)
	if x == nil {
		return Description{}, false
	}
	x.eventOnce.Do(x.makeEvent)
	return x.description, true
}
