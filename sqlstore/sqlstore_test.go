package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signalpost/webhook"
)

// noDB is a database that never answers: these tests need none.
func noDB(t *testing.T) *sql.DB {
	db := sql.OpenDB(noConnector{})
	t.Cleanup(func() { db.Close() })
	return db
}

type noConnector struct{ dsn string }

func (noConnector) Connect(context.Context) (driver.Conn, error) {
	return nil, errors.New("no database")
}
func (noConnector) Driver() driver.Driver { return nil }

// A Store shows nothing of the pool's, whatever it is printed with.
func TestStoreShowsNoPassword(t *testing.T) {
	db := sql.OpenDB(noConnector{"postgres://shop:canary@db"})
	t.Cleanup(func() { db.Close() })
	s, err := New(db, PostgreSQL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if got := fmt.Sprintf(verb, s); got != "sqlstore on PostgreSQL" {
			t.Errorf("%s: %s", verb, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	db := noDB(t)
	for _, c := range []struct {
		name    string
		db      *sql.DB
		dialect Dialect
		opts    Options
		want    string
	}{
		{"no database", nil, SQLite, Options{}, "webhook: sqlstore: db: is nil"},
		{"no dialect", db, 0, Options{}, "webhook: sqlstore: dialect: is Dialect(0), want SQLite, PostgreSQL or MySQL"},
		{"prefix that ends a name", db, MySQL, Options{Prefix: "x; drop"}, `webhook: sqlstore: Prefix: is "x; drop", want at most 30 lower-case letters, digits and underscores`},
		{"prefix too long", db, MySQL, Options{Prefix: strings.Repeat("a", 31)}, `webhook: sqlstore: Prefix: is "` + strings.Repeat("a", 31) + `", want at most 30 lower-case letters, digits and underscores`},
		{"schema elsewhere", db, SQLite, Options{Schema: "s"}, "webhook: sqlstore: Schema: is for PostgreSQL only"},
		{"schema with a quote", db, PostgreSQL, Options{Schema: `a"b`}, `webhook: sqlstore: Schema: is "a\"b", want letters, digits and underscores`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := New(c.db, c.dialect, &c.opts)
			if !errors.Is(err, webhook.ErrInvalid) || err.Error() != c.want {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
		})
	}
}

// Every statement has its tables' names filled in and, but for PostgreSQL's arrays, as many parameters as a reader expects.
func TestStatementsAreFilled(t *testing.T) {
	for _, d := range []Dialect{SQLite, PostgreSQL, MySQL} {
		s, err := New(noDB(t), d, &Options{Prefix: "p_"})
		if err != nil {
			t.Fatal(err)
		}
		v := reflect.ValueOf(s.sql)
		for i := range v.NumField() {
			name, text := v.Type().Field(i).Name, v.Field(i).String()
			if strings.Contains(text, "{prefix}") || strings.Contains(text, "{name}") {
				t.Errorf("%v: %s: %s", d, name, text)
			}
			if d != PostgreSQL && regexp.MustCompile(`\$\d`).MatchString(text) {
				t.Errorf("%v: %s has PostgreSQL's parameters", d, name)
			}
		}
	}
}

func TestMigrationsAreFilesToRun(t *testing.T) {
	for _, d := range []Dialect{SQLite, PostgreSQL, MySQL} {
		opts := &Options{Prefix: "p_"}
		if d == PostgreSQL {
			opts.Schema = "s"
		}
		s, err := New(noDB(t), d, opts)
		if err != nil {
			t.Fatal(err)
		}
		files, err := s.Migrations()
		if err != nil {
			t.Fatal(err)
		}
		names, err := fs.Glob(files, "*.sql")
		if err != nil || len(names) == 0 || names[0] != "0001_init.sql" {
			t.Fatalf("%v: files %v, %v", d, names, err)
		}
		text, err := fs.ReadFile(files, names[0])
		if err != nil {
			t.Fatal(err)
		}
		want := "p_queue ("
		if d == PostgreSQL {
			want = `CREATE TABLE "s".p_queue (`
		}
		if !strings.Contains(string(text), want) || strings.Contains(string(text), "{") {
			t.Errorf("%v: names are not filled in", d)
		}
	}
}

func TestWithRowsListAny(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{withRows("INSERT INTO t (a, b) VALUES (?, 'x') ON DUPLICATE KEY UPDATE a = VALUES(a)", 3), "INSERT INTO t (a, b) VALUES (?, 'x'), (?, 'x'), (?, 'x') ON DUPLICATE KEY UPDATE a = VALUES(a)"},
		{withList("a IN {list} AND b", 1), "a IN (?) AND b"},
		{withList("a IN {list} AND b", 3), "a IN (?,?,?) AND b"},
		{withAny("SELECT 1 WHERE (a = ? AND b = ?)", 2), "SELECT 1 WHERE (a = ? AND b = ?) OR (a = ? AND b = ?)"},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestArrays(t *testing.T) {
	texts := []string{"a", "", `q"\`, "NULL", "{,}"}
	if got, want := textArray(texts, self), `{"a","","q\"\\","NULL","{,}"}`; got != want {
		t.Errorf("text: got %s, want %s", got, want)
	}
	if got, want := optTextArray(texts[:2], self), `{"a",NULL}`; got != want {
		t.Errorf("text with NULL: got %s, want %s", got, want)
	}
	data := [][]byte{{0, 255}, nil, {}}
	if got, want := bytesArray(data, func(b *[]byte) []byte { return *b }), `{"\\x00ff",NULL,"\\x"}`; got != want {
		t.Errorf("bytes: got %s, want %s", got, want)
	}
	if got, want := intArray([]int64{-1, math.MaxInt64}, func(n *int64) int64 { return *n }), `{-1,9223372036854775807}`; got != want {
		t.Errorf("ints: got %s, want %s", got, want)
	}
	if got, want := textArray(nil, self), `{}`; got != want {
		t.Errorf("none: got %s, want %s", got, want)
	}
}

func TestEnqueueRefusesText(t *testing.T) {
	good := func() webhook.NewEvent {
		return webhook.NewEvent{Event: webhook.Event{ID: "e", Type: "t"}, Deliveries: []webhook.NewDelivery{{ID: "d", EndpointID: "a"}}}
	}
	for _, c := range []struct {
		name, field string
		spoil       func(*webhook.NewEvent)
	}{
		{"no ID", "Event.ID", func(e *webhook.NewEvent) { e.Event.ID = "" }},
		{"NUL", "Event.Tenant", func(e *webhook.NewEvent) { e.Event.Tenant = "a\x00b" }},
		{"not UTF-8", "Event.OrderingKey", func(e *webhook.NewEvent) { e.Event.OrderingKey = "\xff" }},
		{"too long", "Event.Type", func(e *webhook.NewEvent) { e.Event.Type = strings.Repeat("x", 256) }},
		{"header not UTF-8", "Event.Header", func(e *webhook.NewEvent) { e.Event.Header = map[string][]string{"A": {"\xff"}} }},
		{"delivery without endpoint", "NewDelivery.EndpointID", func(e *webhook.NewEvent) { e.Deliveries[0].EndpointID = "" }},
		{"ordered lease", "NewDelivery.Lease", func(e *webhook.NewEvent) { e.Deliveries[0].Lease, e.Deliveries[0].OrderingKey = 1, "k" }},
		{"lease of nobody", "EnqueueRequest.Owner", func(e *webhook.NewEvent) { e.Deliveries[0].Lease = 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := good()
			c.spoil(&bad)
			_, err := newEvents(&webhook.EnqueueRequest{Events: []webhook.NewEvent{good(), bad}})
			var field *webhook.FieldError
			if !errors.As(err, &field) || field.Field != c.field {
				t.Errorf("got %v, want an error of %s", err, c.field)
			}
		})
	}
	if _, err := newEvents(&webhook.EnqueueRequest{Events: []webhook.NewEvent{good()}}); err != nil {
		t.Error(err)
	}
}

func TestWordsAlwaysFit(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\x00b": "a\uFFFDb", "a\xff": "a\uFFFD", "": "", "1234567890": "12345678",
	} {
		if got := words(in, 8); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

type sqlState string

func (s sqlState) Error() string    { return "state " + string(s) }
func (s sqlState) SQLState() string { return string(s) }

func TestRetryable(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("x: %w", sqlState("40001")), true},
		{sqlState("40P01"), true},
		{sqlState("23505"), false},
		{errors.New("Error 1213 (40001): Deadlock found when trying to get lock; try restarting transaction"), true},
		{errors.New("Error 1062 (23000): Duplicate entry"), false},
		{errors.New("database is locked (5) (SQLITE_BUSY)"), true},
		{errors.New("database is locked"), true},
		{context.Canceled, false},
	} {
		if got := retryable(c.err); got != c.want {
			t.Errorf("%v: got %v", c.err, got)
		}
	}
}

func TestRetryIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		most time.Duration
	}{
		"deadlock": {sqlState("40P01"), 2 * time.Second},
		"busy":     {errors.New("database is locked"), maxWait + time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, begin, tries := &Store{}, time.Now(), 0
			err := s.retry(t.Context(), func(context.Context) error { tries++; return c.err })
			if !errors.Is(err, c.err) || tries < maxTries || time.Since(begin) > c.most {
				t.Errorf("%s: %v after %d tries and %v", name, err, tries, time.Since(begin))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			defer cancel()
			if err := s.retry(ctx, func(context.Context) error { return c.err }); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, c.err) {
				t.Errorf("%s: cancelled: %v", name, err)
			}
		})
	}
}

func TestBucket(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rate := webhook.Rate{Events: 3, Per: time.Second, Burst: 2}
	b := newBucket(rate, now)
	if b.left() != 0 || !b.next().Equal(now.Add(busyPause)) {
		t.Errorf("before its row is ours: %d left, next %v", b.left(), b.next())
	}
	b.set(0, 0)
	if b.left() != 2 {
		t.Fatalf("full: %d left", b.left())
	}
	b.taken = 2
	if b.left() != 0 {
		t.Errorf("empty: %d left", b.left())
	}
	// A third of a second is no whole number of microseconds: who comes at the time told must not be early.
	next := b.next()
	if want := now.Add(333334 * time.Microsecond); !next.Equal(want) {
		t.Errorf("next %v, want %v", next, want)
	}
	later := newBucket(rate, next)
	later.set(b.after(), b.depth())
	if later.left() != 1 {
		t.Errorf("at the time told: %d left", later.left())
	}
	early := newBucket(rate, next.Add(-time.Microsecond))
	early.set(b.after(), b.depth())
	if early.left() != 0 {
		t.Errorf("a microsecond early: %d left", early.left())
	}
	// Over an hour, no more than the burst and the rate allow.
	total, tat := int64(0), int64(0)
	for at := now; at.Before(now.Add(time.Hour)); at = at.Add(700 * time.Millisecond) {
		b := newBucket(rate, at)
		b.set(tat, b.depth())
		b.taken = b.left()
		total, tat = total+b.taken, b.after()
	}
	if total > 2+3*3600 {
		t.Errorf("%d in an hour", total)
	}
	huge := newBucket(webhook.Rate{Events: 1, Per: math.MaxInt64, Burst: math.MaxInt}, now)
	if huge.set(0, 0); huge.left() < 1 || huge.now+huge.depth() < 0 {
		t.Errorf("a rate of once in 292 years: %d left, depth %d", huge.left(), huge.depth())
	}
}

// What was taken under another rate is an empty bucket of this one at most; but a clock that is behind gives nothing back.
func TestBucketOfAnotherRate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	slow, fast := webhook.Rate{Events: 1, Per: 5 * time.Minute, Burst: 1}, webhook.Rate{Events: 50, Burst: 10}
	taken := func(r webhook.Rate, tat, depth int64, at time.Time, n int64) *bucket {
		b := newBucket(r, at)
		b.set(tat, depth)
		if b.left() < n {
			t.Fatalf("%v at %v: %d left, want %d", r, at.Sub(now), b.left(), n)
		}
		b.taken = n
		return b
	}
	b := taken(slow, 0, 0, now, 1)
	c := newBucket(fast, now.Add(time.Second))
	if c.set(b.after(), b.depth()); c.left() != 0 || !c.clipped || !c.next().Equal(now.Add(1020*time.Millisecond)) {
		t.Errorf("from slow to fast: %d left, clipped %v, next %v", c.left(), c.clipped, c.next().Sub(now))
	}
	d := newBucket(fast, now.Add(1100*time.Millisecond))
	if d.set(c.after(), c.depth()); d.left() != 5 || d.clipped {
		t.Errorf("0.1 s later: %d left, clipped %v, want 5", d.left(), d.clipped)
	}
	d.taken = 5
	behind := newBucket(fast, now.Add(time.Second))
	if behind.set(d.after(), d.depth()); behind.left() != 0 || behind.clipped {
		t.Errorf("by a clock that is behind: %d left, clipped %v", behind.left(), behind.clipped)
	}
	e := newBucket(slow, now.Add(1100*time.Millisecond)) // the bucket has room for one, and 0.2 s of it are taken
	if e.set(d.after(), d.depth()); e.left() != 0 || e.clipped {
		t.Errorf("from fast to slow: %d left, clipped %v", e.left(), e.clipped)
	}
}

// Lanes share a claim's Limit and an endpoint's rate; what one leaves, the other gets in the next round.
func TestClaimRounds(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	lane := func(class webhook.Class, rate webhook.Rate) webhook.LaneClaim {
		return webhook.LaneClaim{LaneID: webhook.LaneID{EndpointID: "a", Class: class}, Max: 10, Rate: rate}
	}
	rate := webhook.Rate{Events: 5}
	req := &webhook.ClaimRequest{Now: now, Limit: 20, Lanes: []webhook.LaneClaim{lane(webhook.Fresh, rate), lane(webhook.Retry, rate)}}
	c := newClaimState(&Store{}, req)
	c.buckets["a"].set(0, 0)
	caps := func() []int { return []int{c.lanes[0].cap, c.lanes[1].cap} }
	if !c.nextRound() || !slices.Equal(caps(), []int{5, 0}) {
		t.Fatalf("first round: %v", caps())
	}
	c.apply([]pickedRow{{lane: 0, endpointID: "a", dueAt: 1}, {lane: 0, endpointID: "a", dueAt: 2, fate: fatePark}})
	if !c.nextRound() || !slices.Equal(caps(), []int{0, 4}) {
		t.Fatalf("second round: %v", caps())
	}
	c.apply([]pickedRow{{lane: 1, endpointID: "a", dueAt: 1}, {lane: 1, endpointID: "a", dueAt: 3, fate: fateLeave}, {lane: 1, endpointID: "a", dueAt: 4}})
	if c.nextRound() {
		t.Fatalf("third round: %v", caps())
	}
	if got := []bool{c.lanes[0].more, c.lanes[1].more}; !slices.Equal(got, []bool{false, true}) {
		t.Errorf("more: %v", got)
	}
	if c.lanes[1].next != 3 { // where the row was left
		t.Errorf("next from %d", c.lanes[1].next)
	}
}
