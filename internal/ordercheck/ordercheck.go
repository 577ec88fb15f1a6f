// Package ordercheck judges what a receiver got of ordered deliveries, for tests in which processes that send are killed.
//
// Of each key the deliveries must come one at a time and by their numbers, 1, 2, 3, and so on. One that was not answered with success
// comes again before the next does. One that was may come again only where its sender was killed, or was slower to record it than its
// lease, and only while it is the last: never after its successor.
package ordercheck

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Log is what senders and receiver have noted. The zero Log is empty. All methods may be called by many goroutines at once.
type Log struct {
	// Lease is how long a sender has to record an answer. What comes again when half of it is over counts as overdue, and is no
	// fault: on a busy machine a process may stand still for that long. Zero: always a fault.
	Lease time.Duration

	mu       sync.Mutex
	keys     map[string]*key
	killed   map[string]bool
	faults   []string
	requests int
	repeats  int
	retries  int
	overdue  int
}

// key is an ordering key at one endpoint.
type key struct {
	name     string
	sent     map[string]sending // by event
	numbers  map[string]int64   // of the events that came
	events   map[int64]string   // by number
	last     int64              // greatest number that came; 0: none
	answered bool               // with success: the last
	by       string             // who sent it then
	at       time.Time          // when
	open     map[*Visit]bool    // requests under way
}

// sending is when an event was sent: between from and to.
type sending struct{ from, to time.Time }

// Visit is one request at the receiver.
type Visit struct {
	log    *Log
	key    *key
	number int64
	by     string
}

// Stats counts requests.
type Stats struct {
	Requests int
	Retries  int // of what was not answered with success
	Repeats  int // of what was
	Overdue  int // of those, the ones whose sender was not killed but slow
}

func (l *Log) key(name string) *key {
	k := l.keys[name]
	if k == nil {
		if l.keys == nil {
			l.keys, l.killed = make(map[string]*key), make(map[string]bool)
		}
		k = &key{
			name: name, sent: make(map[string]sending), numbers: make(map[string]int64), events: make(map[int64]string),
			open: make(map[*Visit]bool),
		}
		l.keys[name] = k
	}
	return k
}

func (l *Log) fault(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

// Sent notes an event that was committed; the call that sent it began at from and had committed at to.
func (l *Log) Sent(name, event string, from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.key(name).sent[event] = sending{from, to}
}

// Killed notes that a sender is about to be killed.
func (l *Log) Killed(by string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.key("") // makes the maps
	l.killed[by] = true
}

// Arrived notes that a request has come, from a sender. Its end must be noted too.
func (l *Log) Arrived(name, event string, number int64, by string) *Visit {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.key(name)
	v := &Visit{log: l, key: k, number: number, by: by}
	l.requests++
	for o := range k.open {
		l.fault("overlapping: %s: %d came from %s while %d from %s was under way", name, number, by, o.number, o.by)
	}
	l.place(k, v)
	if n, known := k.numbers[event]; known && n != number {
		l.fault("renumbered: %s: event %s came as %d, and as %d before", name, event, number, n)
	}
	if e, known := k.events[number]; known && e != event {
		l.fault("doubled: %s: %d is event %s, and was %s before", name, number, event, e)
	}
	k.numbers[event], k.events[number] = number, event
	k.open[v] = true
	return v
}

// place compares a request's number with those before it.
func (l *Log) place(k *key, v *Visit) {
	switch {
	case v.number < 1:
		l.fault("unordered: %s: number %d from %s", k.name, v.number, v.by)
	case v.number < k.last:
		l.fault("out of order: %s: %d came from %s after %d", k.name, v.number, v.by, k.last)
	case v.number == k.last && !k.answered:
		l.retries++
	case v.number == k.last:
		l.repeats++
		switch {
		case l.killed[k.by]:
		case l.Lease > 0 && time.Since(k.at) >= l.Lease/2:
			l.overdue++
		default:
			l.fault("repeated: %s: %d came from %s, was answered to %s, and nobody killed that", k.name, v.number, v.by, k.by)
		}
	case v.number > k.last+1:
		l.fault("gap: %s: %d came from %s after %d", k.name, v.number, v.by, k.last)
	case k.last > 0 && !k.answered:
		l.fault("out of order: %s: %d came from %s before %d was answered", k.name, v.number, v.by, k.last)
	}
	if v.number > k.last {
		k.last, k.answered = v.number, false
	}
}

// Answered notes how a request ended, before the answer goes out: with success, or otherwise.
func (v *Visit) Answered(success bool) {
	l := v.log
	l.mu.Lock()
	defer l.mu.Unlock()
	k := v.key
	delete(k.open, v)
	if success && v.number == k.last {
		k.answered, k.by, k.at = true, v.by, time.Now()
	}
}

// Missing is how many of the events sent have not come and been answered with success.
func (l *Log) Missing() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		n += len(k.missing())
	}
	return n
}

func (k *key) missing() (events []string) {
	for e := range k.sent {
		if n, came := k.numbers[e]; !came || n == k.last && !k.answered {
			events = append(events, e)
		}
	}
	slices.Sort(events)
	return events
}

// Stats counts the requests so far.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{l.requests, l.retries, l.repeats, l.overdue}
}

// Faults lists what was wrong, when all is over; each begins with what kind it is.
func (l *Log) Faults() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	faults := slices.Clone(l.faults)
	for _, k := range l.keys {
		for _, e := range k.missing() {
			faults = append(faults, fmt.Sprintf("stuck: %s: event %s has not been delivered", k.name, e))
		}
		faults = append(faults, k.judge()...)
	}
	slices.Sort(faults)
	return faults
}

// judge compares what came with what was sent.
func (k *key) judge() (faults []string) {
	type numbered struct {
		sending
		event  string
		number int64
	}
	var came []numbered
	for e, n := range k.numbers {
		s, sent := k.sent[e]
		if !sent {
			faults = append(faults, fmt.Sprintf("unsent: %s: event %s came and was never committed", k.name, e))
			continue
		}
		came = append(came, numbered{s, e, n})
	}
	slices.SortFunc(came, func(a, b numbered) int { return cmp.Or(cmp.Compare(a.number, b.number), a.from.Compare(b.from)) })
	var latest numbered // of those before, the one whose sending began last
	for _, c := range came {
		if c.to.Before(latest.from) {
			faults = append(faults, fmt.Sprintf("sent earlier: %s: event %s was committed before %s was begun and has number %d, not one below %d",
				k.name, c.event, latest.event, c.number, latest.number))
		}
		if c.from.After(latest.from) {
			latest = c
		}
	}
	return faults
}
