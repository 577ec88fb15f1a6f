package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/signalpost/webhook"
)

// SQLite has one write lock, and what is done under it nothing else can be done beside. Claims and completions therefore suppose what
// is nearly always so, and write it down in a way that tells if it was not: then they begin anew and suppose nothing.
var errSupposed = errors.New("a row is not as it was supposed to be")

// endLikely ends what was delivered without an ordering key, at an attempt whose number tells how many there were before: in one statement
// for many, without a look at the rows, which is half as dear.
func (s *Store) endLikely(ctx context.Context, q querier, rows []outcomeRow) error {
	type kind struct {
		token    int64 // few: it counts the leases of one delivery
		attempts int
	}
	likely := make(map[kind][]*outcomeRow)
	for i := range rows {
		if r := &rows[i]; r.likely {
			k := kind{r.token, r.attempt.Number - 1}
			likely[k] = append(likely[k], r)
		}
	}
	for k, all := range likely {
		sortByID(all)
		for part := range slices.Chunk(all, maxRows) {
			args := append(make([]any, 0, 2+len(part)), k.token, k.attempts)
			for _, r := range part {
				args = append(args, r.id)
				r.hit, r.gone, r.ownRow = true, true, ownRow{attempts: int64(k.attempts) + r.counted}
			}
			if err := execAll(ctx, q, withList(s.sql.endLikely, len(part)), args, len(part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sortByID puts rows in the order of the trees that they are looked up in: neighbours are found sooner.
func sortByID(rows []*outcomeRow) {
	slices.SortFunc(rows, func(a, b *outcomeRow) int { return strings.Compare(a.id, b.id) })
}

// recordAlike makes the records of plain outcomes final: those that are alike with a statement of their own.
func (s *Store) recordAlike(ctx context.Context, q querier, now int64, rows []*outcomeRow) error {
	type kind struct {
		attempts, token int64
		number, status  int
	}
	alike := make(map[kind][]*outcomeRow)
	for _, r := range rows {
		k := kind{r.attempts, r.token, r.attempt.Number, r.attempt.Status}
		alike[k] = append(alike[k], r)
	}
	for k, rows := range alike {
		sortByID(rows)
		same := fmt.Sprintf("attempts = %d, finished_at = %d, token = %d, number = %d, status = %d", k.attempts, now, k.token, k.number, k.status)
		err := prepared(ctx, q, strings.Replace(s.sql.deliver, "{same}", same, 1), rows, func(r **outcomeRow) []any {
			return []any{micros((*r).attempt.StartedAt), int64((*r).attempt.Duration), (*r).id}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// execAll runs a statement that is to change n rows. If it did not, the error is errSupposed.
func execAll(ctx context.Context, q querier, text string, args []any, n int) error {
	res, err := q.ExecContext(ctx, text, args...)
	if err != nil {
		return err
	}
	if changed, err := res.RowsAffected(); err != nil || changed != int64(n) {
		return errors.Join(err, errSupposed)
	}
	return nil
}

// crowdedFor is how long claims suppose nothing of their rows after one has met with another process's.
const crowdedFor = time.Second

// crowding remembers when a claim last found that others had been at its rows.
type crowding struct{ at atomic.Int64 } // Unix nanoseconds

func (c *crowding) note()        { c.at.Store(time.Now().UnixNano()) }
func (c *crowding) lately() bool { return time.Now().UnixNano()-c.at.Load() < int64(crowdedFor) }

// earlyRead is what a claim has read of its lanes before it takes the write lock.
type earlyRead struct {
	rows   []pickedRow
	lanes  []earlyLane          // by place in the request
	beside []eventRead          // that were read with their rows
	events map[string]eventRead // the others, and those whose rows are no longer counted on
}

// earlyLane is the beginning of a lane in which every row is free: without a key, a replay or an owner. Claims count the token of such a
// row up, and whatever else happens to it removes it: a lease by token tells whether it is still as it was read.
type earlyLane struct {
	limit    int // how many were asked for; 0: nothing to be taken
	from, to int // of rows
}

// take is the beginning of a lane as it was when it was read, if as many were asked for then. It can be had by the first that asks, and
// not again: what comes after is read under the lock.
func (e *earlyRead) take(place, limit int) (rows []pickedRow, ok bool) {
	if e == nil || len(e.lanes) == 0 {
		return nil, false
	}
	l := e.lanes[place]
	e.lanes[place] = earlyLane{}
	if rows = e.rows[l.from:l.to]; l.limit == limit {
		return rows, true
	}
	for i := range rows {
		if read := e.eventOf(&rows[i]); read != nil {
			e.events[read.event.ID] = *read
		}
	}
	return nil, false
}

// size is how many rows were read.
func (e *earlyRead) size() int {
	if e == nil {
		return 0
	}
	return len(e.rows)
}

// forgetLanes leaves the events, which do not change while a delivery of theirs may be claimed.
func (e *earlyRead) forgetLanes() {
	e.lanes = nil
	e.keep(e.beside)
}

// keep lets events be found by their IDs.
func (e *earlyRead) keep(events []eventRead) {
	for _, r := range events {
		e.events[r.event.ID] = r
	}
}

// eventOf is the event that was read with a row; nil: none was.
func (e *earlyRead) eventOf(r *pickedRow) *eventRead {
	if r.beside == 0 {
		return nil
	}
	return &e.beside[r.beside-1]
}

// readEarly reads what a claim will most likely get. Whatever is missing is read later, so that a failure here means nothing. Lanes with a
// rate limit are left out, of which only a few of many may come, and those in which not every row is free.
func (c *claimState) readEarly(ctx context.Context) *earlyRead {
	early := &earlyRead{lanes: make([]earlyLane, len(c.lanes)), events: make(map[string]eventRead)}
	conn, err := c.store.db.Conn(ctx)
	if err != nil {
		return early
	}
	defer conn.Close()
	within := context.WithoutCancel(ctx) // as in writeSQLite
	st, err := conn.PrepareContext(within, c.store.sql.pickEarly)
	if err != nil {
		return early
	}
	defer st.Close()
	read := earlyReader{earlyRead: early}
	for i := range c.lanes {
		l := &c.lanes[i]
		limit := min(l.ask.Max, c.req.Limit-len(early.rows))
		if limit <= 0 || limited(l.ask.Rate) {
			continue
		}
		rows, err := st.QueryContext(within, l.ask.EndpointID, int64(l.ask.Class), l.low, micros(c.req.Now), limit)
		if err != nil {
			return early
		}
		from, others := len(early.rows), len(early.beside)
		read.empty = pickedRow{lane: i, leaseEnd: l.leaseEnd, endpointID: l.ask.EndpointID}
		read.free = true
		if err := eachRow(rows, read.row); err != nil {
			return early
		}
		if read.free {
			early.lanes[i] = earlyLane{limit: limit, from: from, to: len(early.rows)}
		} else {
			early.keep(early.beside[others:])
		}
	}
	_ = c.store.readEvents(within, conn, read.apart, early.events) // as far as it comes
	return early
}

// earlyReader reads lanes early. What is scanned into is its own, as that escapes.
type earlyReader struct {
	*earlyRead
	empty pickedRow // of the lane
	free  bool      // all of the lane, so far
	apart []string  // events that are large or that several deliveries want, to be read once

	r                         pickedRow
	isFree                    bool
	reason                    sql.NullString
	kind, tenant, orderingKey sql.NullString // of the event; NULL: there is none
	header, payload           []byte
}

func (e *earlyReader) row(rows *sql.Rows) error {
	e.r = e.empty
	r := &e.r
	err := rows.Scan(&e.isFree, &r.id, &r.dueAt, &r.eventID, &r.token, &r.attempts, &r.createdAt, &e.reason, &r.expiresAt,
		&e.kind, &e.tenant, &e.orderingKey, &e.header, &e.payload)
	if err != nil {
		return err
	}
	r.reason = e.reason.String
	r.token++ // by the lease
	e.free = e.free && e.isFree
	if e.payload == nil {
		e.apart = append(e.apart, r.eventID)
	} else {
		e.beside = append(e.beside, readEvent(webhook.Event{
			ID: r.eventID, Type: e.kind.String, Tenant: e.tenant.String, OrderingKey: e.orderingKey.String, Payload: e.payload,
		}, e.header))
		r.beside = len(e.beside)
	}
	e.rows = append(e.rows, *r)
	return nil
}
