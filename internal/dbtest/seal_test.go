package dbtest

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
	"github.com/signalpost/webhook/storetest"
)

func sealingKey(t testing.TB, id string, n byte) webhook.EncryptionKey {
	t.Helper()
	raw := make([]byte, 32)
	for i := range raw {
		raw[i] = byte(i)*37 + n*101 + 128
	}
	key, err := webhook.NewEncryptionKey(id, raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sealing is a store on a database that seals under the first of keys; none: that does not.
func sealing(t testing.TB, v variant, db *sql.DB, only bool, keys ...webhook.EncryptionKey) *sqlstore.Store {
	t.Helper()
	opts := &sqlstore.Options{SealedOnly: only}
	if len(keys) > 0 {
		cipher, err := webhook.NewAESGCM(keys...)
		if err != nil {
			t.Fatal(err)
		}
		opts.Cipher = cipher
	}
	s, err := sqlstore.New(db, v.dialect, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What must not be found in a database.
const (
	secretMarker   = "MARKER-secret-0123456789"
	retiringMarker = "MARKER-retiring-0123456789"
	headerMarker   = "MARKER-header-0123456789"
	tokenMarker    = "MARKER-token-0123456789"
	proxyMarker    = "MARKER-proxy-0123456789"
	pathMarker     = "MARKER-path-0123456789"
	queryMarker    = "MARKER-query-0123456789"
)

// markedEndpoint has a marker wherever a secret can be.
func markedEndpoint(t testing.TB, id string) webhook.Endpoint {
	return webhook.Endpoint{
		ID: id, URL: "https://" + id + ".example/" + pathMarker + "?token=" + queryMarker, Types: []string{"order_*"},
		Secrets:  []webhook.Secret{secret(t, secretMarker), secret(t, secretMarker+"-2")},
		Retiring: []webhook.RetiringSecret{{Secret: secret(t, retiringMarker), Until: at(0)}},
		Header:   http.Header{"X-Shop": {headerMarker}},
		Auth:     webhook.Bearer(secret(t, tokenMarker)),
		Proxy:    "http://user:" + proxyMarker + "@proxy.example:3128",
	}
}

// plainText finds markers, as they are and in base64, in all that a database holds.
func plainText(t testing.TB, v variant, d DB, db *sql.DB) (found []string) {
	t.Helper()
	var all []byte
	if v.dialect == sqlstore.SQLite {
		for _, suffix := range []string{"", "-wal"} {
			text, err := os.ReadFile(d.Name + suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			all = append(all, text...)
		}
	} else {
		for _, table := range []string{"endpoint", "endpoint_state", "event", "delivery", "queue"} {
			all = append(all, dump(t, db, "webhook_"+table)...)
		}
	}
	if len(all) == 0 {
		t.Fatal("nothing was read")
	}
	for _, marker := range []string{secretMarker, retiringMarker, headerMarker, tokenMarker, proxyMarker, pathMarker, queryMarker} {
		forms := []string{marker}
		for shift := range 3 { // the base64 of it, wherever it begins
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte("xyz"[:shift] + marker))[4:len(marker)])
		}
		for _, form := range forms {
			if bytes.Contains(all, []byte(form)) {
				found = append(found, marker+" as "+form)
			}
		}
	}
	return found
}

// dump is every column of every row.
func dump(t testing.TB, db *sql.DB, table string) (all []byte) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	for rows.Next() {
		cells := make([]sql.RawBytes, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for _, cell := range cells {
			all = append(append(all, cell...), 0)
		}
	}
	return all
}

// TestSealedAtRest looks for secrets in what the databases hold.
func TestSealedAtRest(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		db := v.pool(t, d)
		key := sealingKey(t, "2026-05", 1)
		s := sealing(t, v, db, false, key)
		migrate(t, s)
		ep := markedEndpoint(t, "acme")
		put(t, s, ep, webhook.Endpoint{ID: "bare", URL: "http://bare.example"})
		if found := plainText(t, v, d, db); len(found) > 0 {
			t.Errorf("found %q", found)
		}
		wantEndpoint(t, s, ep)
		wantEndpoint(t, sealing(t, v, db, true, sealingKey(t, "2026-11", 2), key), ep)
		wantEndpoint(t, s, webhook.Endpoint{ID: "bare", URL: "http://bare.example"})
		var shown string
		if err := db.QueryRow("SELECT url FROM webhook_endpoint WHERE id = 'acme'").Scan(&shown); err != nil || shown != "https://acme.example" {
			t.Errorf("the table shows the URL %q, %v", shown, err)
		}

		plain := sealing(t, v, db, false) // the search finds what is there
		put(t, plain, markedEndpoint(t, "plain"))
		if found := plainText(t, v, d, db); len(found) < 7 {
			t.Errorf("of a plain endpoint only %q was found", found)
		}
	})
}

// TestConformanceSealed runs the cases about endpoints on stores that seal.
func TestConformanceSealed(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		key := sealingKey(t, "k1", 1)
		for _, c := range storetest.Cases() {
			if !strings.HasPrefix(c.Name, "Endpoint/") && !strings.HasPrefix(c.Name, "Changes/") {
				continue
			}
			t.Run(c.Name, func(t *testing.T) {
				d := v.database(t)
				h := storetest.Harness{Store: sealing(t, v, v.pool(t, d), true, key), Second: sealing(t, v, v.pool(t, d), true, key)}
				migrate(t, h.Store.(*sqlstore.Store))
				if err := c.Check(func() storetest.Harness { return h }); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// TestSealFaults opens what was sealed for somebody else, under another key, without one, or not at all.
func TestSealFaults(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		db := v.pool(t, d)
		s := sealing(t, v, db, false, sealingKey(t, "k1", 1))
		migrate(t, s)
		put(t, s, markedEndpoint(t, "acme"), markedEndpoint(t, "copied"), markedEndpoint(t, "bared"), webhook.Endpoint{ID: "swapped", URL: "http://x"})
		put(t, sealing(t, v, db, false), markedEndpoint(t, "plain"))
		must(t, db, "CREATE TABLE sealed_copy AS SELECT secrets, credentials FROM webhook_endpoint WHERE id = 'acme'")
		must(t, db, "UPDATE webhook_endpoint SET secrets = (SELECT secrets FROM sealed_copy) WHERE id = 'copied'")
		must(t, db, "UPDATE webhook_endpoint SET secrets = (SELECT credentials FROM sealed_copy), credentials = (SELECT secrets FROM sealed_copy) WHERE id = 'swapped'")
		must(t, db, "UPDATE webhook_endpoint SET credentials = NULL WHERE id = 'bared'")
		k1 := sealingKey(t, "k1", 1)
		for _, c := range []struct {
			store *sqlstore.Store
			id    string
			want  error
		}{
			{s, "acme", nil},
			{s, "plain", nil},
			{s, "copied", webhook.ErrSealBroken},
			{s, "swapped", webhook.ErrSealBroken},
			{sealing(t, v, db, false, sealingKey(t, "k1", 2)), "acme", webhook.ErrSealBroken},
			{sealing(t, v, db, false, sealingKey(t, "k2", 1)), "acme", webhook.ErrUnknownKey},
			{sealing(t, v, db, false), "acme", webhook.ErrNoCipher},
			{sealing(t, v, db, true, k1), "acme", nil},
			{sealing(t, v, db, true, k1), "plain", webhook.ErrNotSealed},
			{sealing(t, v, db, true, k1), "bared", webhook.ErrNotSealed},
		} {
			_, err := c.store.GetEndpoint(t.Context(), c.id)
			if !errors.Is(err, c.want) || err != nil && strings.Contains(err.Error(), "MARKER") {
				t.Errorf("endpoint %s: %v, want %v", c.id, err, c.want)
			}
			changes, err := c.store.EndpointChanges(t.Context(), 0)
			if err != nil || len(changes.Put) != 5 || !errors.Is(changes.Unreadable[c.id], c.want) {
				t.Errorf("changes with endpoint %s: %v, %v; want 5 and %v", c.id, changes, err, c.want)
			}
			list, err := c.store.ListEndpoints(t.Context(), &webhook.ListEndpointsRequest{})
			if err != nil || len(list.Endpoints) != 5 || !errors.Is(list.Unreadable[c.id], c.want) {
				t.Errorf("list with endpoint %s: %v, %v; want 5 and %v", c.id, list, err, c.want)
			}
		}
	})
	if _, err := sqlstore.New(new(sql.DB), sqlstore.SQLite, &sqlstore.Options{SealedOnly: true}); !errors.Is(err, webhook.ErrInvalid) {
		t.Errorf("SealedOnly without a cipher: %v", err)
	}
}

// TestReseal goes from no cipher to one, and from a key to the next, without any process having to read endpoints anew.
func TestReseal(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		db := v.pool(t, d)
		plain := sealing(t, v, db, false)
		migrate(t, plain)
		const n = 230 // more than two batches
		for i := range n {
			put(t, plain, markedEndpoint(t, fmt.Sprintf("ep%03d", i)))
		}
		if err := plain.DeleteEndpoint(t.Context(), "ep007"); err != nil {
			t.Fatal(err)
		}
		before, _ := plain.EndpointChanges(t.Context(), 0)
		if _, err := plain.Reseal(t.Context()); !errors.Is(err, webhook.ErrNoCipher) {
			t.Errorf("Reseal without a cipher: %v", err)
		}
		k1, k2 := sealingKey(t, "k1", 1), sealingKey(t, "k2", 2)
		for _, step := range []struct {
			s    *sqlstore.Store
			want int
		}{
			{sealing(t, v, db, false, k1), n - 1},
			{sealing(t, v, db, true, k1), 0},
			{sealing(t, v, db, true, k2, k1), n - 1},
			{sealing(t, v, db, true, k2, k1), 0},
		} {
			if got, err := step.s.Reseal(t.Context()); err != nil || got != step.want {
				t.Errorf("Reseal: %d, %v; want %d", got, err, step.want)
			}
		}
		last := sealing(t, v, db, true, k2)
		wantEndpoint(t, last, markedEndpoint(t, "ep000"))
		wantEndpoint(t, last, markedEndpoint(t, "ep229"))
		after, err := last.EndpointChanges(t.Context(), before.Version)
		if err != nil || after.Version != before.Version || len(after.Put) > 0 {
			t.Errorf("after it, changes since are %v, %v; want none", after, err)
		}
		if got, err := sealing(t, v, db, true, sealingKey(t, "k3", 3), k1).Reseal(t.Context()); got != 0 || !errors.Is(err, webhook.ErrUnknownKey) || !strings.Contains(err.Error(), "ep229") {
			t.Errorf("Reseal of what it cannot read: %d, %v", got, err)
		}
		wantEndpoint(t, last, markedEndpoint(t, "ep000"))
		if v.dialect == sqlstore.SQLite {
			must(t, db, "VACUUM")
			must(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
		}
		if found := plainText(t, v, d, db); len(found) > 0 {
			t.Errorf("found %q", found)
		}
	})
}

// TestResealWhileOthersWork seals anew, twice at once, while endpoints are put with the old key and the new: no change is lost.
func TestResealWhileOthersWork(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		k1, k2 := sealingKey(t, "k1", 1), sealingKey(t, "k2", 2)
		old, renewed := sealing(t, v, v.pool(t, d), false, k1, k2), sealing(t, v, v.pool(t, d), false, k2, k1)
		migrate(t, old)
		const writers, rounds = 4, 25
		want := func(w, round int) webhook.Endpoint {
			ep := markedEndpoint(t, fmt.Sprint("ep", w))
			ep.MaxInFlight = round + 1
			ep.Auth = webhook.Bearer(secret(t, fmt.Sprint(tokenMarker, round)))
			return ep
		}
		stop := make(chan struct{})
		var sealers sync.WaitGroup
		for range 2 {
			sealers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := renewed.Reseal(t.Context()); err != nil {
						t.Errorf("Reseal: %v", err)
					}
				}
			})
		}
		together(writers, func(w int) {
			for round := range rounds {
				s := old
				if round%2 == 1 {
					s = renewed
				}
				if err := s.PutEndpoint(t.Context(), want(w, round)); err != nil {
					t.Errorf("put: %v", err)
				}
			}
		})
		close(stop)
		sealers.Wait()
		if _, err := renewed.Reseal(t.Context()); err != nil {
			t.Error(err)
		}
		for w := range writers {
			wantEndpoint(t, sealing(t, v, v.pool(t, d), true, k2), want(w, rounds-1))
		}
	})
}

// TestSealedDeliveriesWait runs a process without the key: what is for the sealed endpoint waits, untouched, and one with the key
// delivers it at once, beside the other.
func TestSealedDeliveriesWait(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		withKey, without := sealing(t, v, v.pool(t, d), false, sealingKey(t, "k1", 1)), sealing(t, v, v.pool(t, d), false)
		migrate(t, withKey)
		closed, open := markedEndpoint(t, "sealed"), markedEndpoint(t, "open")
		closed.Proxy, open.Proxy = "", "" // the transport is the test's
		put(t, withKey, closed)
		put(t, without, open)
		recv := &urlRecorder{}
		start := func(store *sqlstore.Store) *webhook.Dispatcher {
			hooks, err := webhook.NewDispatcher(store, &webhook.DispatcherOptions{Transport: recv, Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			(&hinted{}).background(t, hooks.Run)
			return hooks
		}
		const events = 20
		var ids []string
		hooks, keyed := start(without), false
		for range events {
			id, err := hooks.Send(t.Context(), webhook.Event{Type: "order_create"})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		delivered := func(endpoint string) (n int) {
			for _, id := range ids {
				res, err := without.ListDeliveries(t.Context(), &webhook.ListDeliveriesRequest{Now: time.Now(), EventID: id, EndpointID: endpoint})
				switch {
				case err != nil || len(res.Deliveries) != 1:
					t.Fatal(res, err)
				case res.Deliveries[0].State == webhook.Delivered:
					n++
				case endpoint == "open" || keyed:
				case res.Deliveries[0].State.Final() || res.Deliveries[0].Attempts > 0 || res.Deliveries[0].DueAt.After(time.Now().Add(time.Second)):
					t.Fatalf("the sealed endpoint's delivery: %+v", res.Deliveries[0])
				}
			}
			return n
		}
		waitFor(t, 20*time.Second, "the open endpoint's deliveries", func() bool { return delivered("open") == events })
		if n := delivered("sealed"); n > 0 {
			t.Errorf("%d were delivered without the key", n)
		}
		keyed = true
		start(withKey)
		waitFor(t, 20*time.Second, "the sealed endpoint's deliveries", func() bool { return delivered("sealed") == events })
		if got := strings.Count(recv.urls(), "sealed.example/"+pathMarker); got != events {
			t.Errorf("%d requests to the sealed endpoint, want %d", got, events)
		}
	})
}

// urlRecorder answers 200 and remembers where requests went.
type urlRecorder struct {
	mu   sync.Mutex
	sent []string
}

func (r *urlRecorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, req.URL.String())
	return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req, ProtoMajor: 1, ProtoMinor: 1, Proto: "HTTP/1.1"}, nil
}

func (r *urlRecorder) urls() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.sent, " ")
}
