package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// earlyRead is what a claim has read of its lanes before it takes the write lock.
type earlyRead struct {
	lanes  []earlyLane          // by place in the request
	beside []eventRead          // that were read with their rows
	events map[string]eventRead // that were read by themselves
}

// earlyLane is the beginning of a lane. Nobody but claims changes what is plain, and they count its token up.
type earlyLane struct {
	limit int // how many were asked for; 0: the lane was not read
	rows  []pickedRow
}

// take is what a claim would read now that asks for so many, if that was read early: once.
func (e *earlyRead) take(place, limit int) (rows []pickedRow, ok bool) {
	if e == nil || len(e.lanes) == 0 || e.lanes[place].limit != limit {
		return nil, false
	}
	l := e.lanes[place]
	e.lanes[place] = earlyLane{}
	return l.rows, true
}

// forgetLanes leaves the events, which never change.
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
// rate limit are left out, of which only a few of many may come, and those in which something is not plain.
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
	var apart []string // events to be read by themselves
	for i, left := 0, c.req.Limit; i < len(c.lanes) && left > 0; i++ {
		l := &c.lanes[i]
		if limited(l.ask.Rate) {
			continue
		}
		limit := min(l.ask.Max, left)
		rows, err := st.QueryContext(within, l.ask.EndpointID, int64(l.ask.Class), l.low, micros(c.req.Now), limit)
		if err != nil {
			return early
		}
		read, others := earlyReader{earlyRead: early, lane: i, from: l, plain: true, apart: apart}, len(early.beside)
		if err := eachRow(rows, read.row); err != nil {
			return early
		}
		left -= len(read.rows)
		apart = read.apart
		if read.plain {
			early.lanes[i] = earlyLane{limit: limit, rows: read.rows}
		} else {
			early.keep(early.beside[others:])
		}
	}
	_ = c.store.readEvents(within, conn, apart, early.events) // as far as it comes
	return early
}

// earlyReader reads a lane early.
type earlyReader struct {
	*earlyRead
	lane  int
	from  *laneState
	rows  []pickedRow
	plain bool     // all of it, so far
	apart []string // events that several deliveries want, to be read once
	event earlyEvent
}

// earlyEvent is an event as it stands beside a row: NULL where there is none.
type earlyEvent struct {
	kind, tenant, orderingKey sql.NullString
	header, payload           []byte
}

func (e *earlyReader) row(rows *sql.Rows) error {
	r := pickedRow{lane: e.lane, leaseEnd: e.from.leaseEnd, endpointID: e.from.ask.EndpointID}
	var plain bool
	var reason sql.NullString
	v := &e.event
	err := rows.Scan(&plain, &r.id, &r.dueAt, &r.eventID, &r.token, &r.attempts, &r.createdAt, &reason, &r.expiresAt,
		&v.kind, &v.tenant, &v.orderingKey, &v.header, &v.payload)
	if err != nil {
		return err
	}
	r.reason = reason.String
	r.token++ // by the lease
	e.plain = e.plain && plain
	if v.payload == nil {
		e.apart = append(e.apart, r.eventID)
	} else {
		e.beside = append(e.beside, readEvent(webhook.Event{
			ID: r.eventID, Type: v.kind.String, Tenant: v.tenant.String, OrderingKey: v.orderingKey.String, Payload: v.payload,
		}, v.header))
		r.beside = len(e.beside)
	}
	e.rows = append(e.rows, r)
	return nil
}
