package dbtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/signalpost/webhook"
	"github.com/signalpost/webhook/sqlstore"
)

// sameSecret compares secrets, which do not show themselves.
var sameSecret = cmp.Comparer(func(a, b webhook.Secret) bool { return a.Reveal() == b.Reveal() })

func secret(t testing.TB, text string) webhook.Secret {
	t.Helper()
	s, err := webhook.IssuedSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// fullEndpoint has something in every field.
func fullEndpoint(t testing.TB) webhook.Endpoint {
	return webhook.Endpoint{
		ID: "acme", URL: "https://acme.example/hooks?a=ü", Tenant: "tenant é ",
		Secrets: []webhook.Secret{secret(t, "whsec_current"), secret(t, "bytes \x00\xff\xfe'\"")},
		Types:   []string{"order_*", "invoice.paid"}, Profile: "tradegecko",
		Schedule: webhook.Schedule{Kind: "list", List: []time.Duration{30 * time.Second, 1, 6*time.Hour + 7}, First: 3, Cap: time.Hour,
			Retries: 5, Jitter: 0.1},
		Timeout: 1500 * time.Millisecond, Success: webhook.SuccessRule{From: 200, To: 399}, MaxInFlight: 8,
		Rate: webhook.Rate{Events: 50, Per: time.Second, Burst: 7}, Order: webhook.HoldKey, AllowPrivate: true,
	}
}

func put(t *testing.T, s *sqlstore.Store, eps ...webhook.Endpoint) {
	t.Helper()
	for _, ep := range eps {
		if err := s.PutEndpoint(t.Context(), ep); err != nil {
			t.Fatal(err)
		}
	}
}

func wantEndpoint(t *testing.T, s *sqlstore.Store, want webhook.Endpoint) {
	t.Helper()
	got, err := s.GetEndpoint(t.Context(), want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, sameSecret); diff != "" {
		t.Errorf("endpoint (-put +got):\n%s", diff)
	}
}

func TestEndpointComesBackAsItWasPut(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		full := fullEndpoint(t)
		put(t, a, full)
		wantEndpoint(t, b, full)
		bare := webhook.Endpoint{ID: "acme", URL: "http://x"} // replaces every field
		put(t, b, bare)
		wantEndpoint(t, a, bare)
		for _, order := range []webhook.OrderPolicy{webhook.BlockBehindDeadLetter, webhook.SkipDeadLetter, webhook.HoldKey} {
			ep := webhook.Endpoint{ID: fmt.Sprint("order", order), URL: "http://x", Order: order}
			put(t, a, ep)
			wantEndpoint(t, b, ep)
		}
	})
}

func TestEndpointDelete(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		if err := a.DeleteEndpoint(t.Context(), "acme"); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("Delete of none: %v, want ErrNotFound", err)
		}
		if ch := changes(t, a, 0); ch.Version != 0 {
			t.Errorf("a delete of nothing made version %d", ch.Version)
		}
		put(t, a, fullEndpoint(t))
		if err := b.DeleteEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		if err := b.DeleteEndpoint(t.Context(), "acme"); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("second Delete: %v, want ErrNotFound", err)
		}
		if _, err := a.GetEndpoint(t.Context(), "acme"); !errors.Is(err, webhook.ErrNotFound) {
			t.Errorf("Get: %v, want ErrNotFound", err)
		}
		if ids, _ := listEndpoints(t, a, nil, "", 0); len(ids) != 0 {
			t.Errorf("listed: %q", ids)
		}
		put(t, a, fullEndpoint(t))
		wantEndpoint(t, b, fullEndpoint(t))
	})
}

// TestEndpointTombstoneKeepsNoSecret looks into the table.
func TestEndpointTombstoneKeepsNoSecret(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		s, db := v.handle(t, d)
		migrate(t, s)
		put(t, s, fullEndpoint(t))
		if err := s.DeleteEndpoint(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
		var secrets, settings []byte
		var url string
		err := db.QueryRow("SELECT secrets, settings, url FROM webhook_endpoint").Scan(&secrets, &settings, &url)
		if err != nil || len(secrets)+len(settings)+len(url) != 0 {
			t.Errorf("a deleted endpoint still has %q %q %q (%v)", secrets, settings, url, err)
		}
	})
}

func listEndpoints(t *testing.T, s *sqlstore.Store, tenant *string, after string, limit int) (ids []string, next string) {
	t.Helper()
	res, err := s.ListEndpoints(t.Context(), &webhook.ListEndpointsRequest{Tenant: tenant, After: after, Limit: limit})
	if err != nil {
		t.Fatal(err)
	}
	for _, ep := range res.Endpoints {
		ids = append(ids, ep.ID)
	}
	return ids, res.Next
}

func TestEndpointListIsBytewise(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		s, _ := v.open(t)
		ids := []string{"b", "a", "B", "_", "-", "a.b", "a-b", "ab", "aB", "~", "0", "10", "9", "A"}
		tenants := map[string]string{"b": "t", "B": "t", "ab": "T", "A": "t "}
		for _, id := range ids {
			put(t, s, webhook.Endpoint{ID: id, URL: "http://x", Tenant: tenants[id]})
		}
		slices.Sort(ids)
		if got, next := listEndpoints(t, s, nil, "", 0); !slices.Equal(got, ids) || next != "" {
			t.Errorf("all: %q, next %q, want %q", got, next, ids)
		}
		var paged []string
		for after, pages := "", 0; ; pages++ {
			page, next := listEndpoints(t, s, nil, after, 3)
			paged = append(paged, page...)
			if after = next; next == "" || pages > 10 {
				break
			}
		}
		if !slices.Equal(paged, ids) {
			t.Errorf("in pages: %q, want %q", paged, ids)
		}
		for tenant, want := range map[string][]string{"t": {"B", "b"}, "T": {"ab"}, "t ": {"A"}, "nobody": nil} {
			if got, _ := listEndpoints(t, s, &tenant, "", 0); !slices.Equal(got, want) {
				t.Errorf("tenant %q: %q, want %q", tenant, got, want)
			}
		}
		none := ""
		if got, _ := listEndpoints(t, s, &none, "", 0); len(got) != len(ids)-len(tenants) {
			t.Errorf("without tenant: %q", got)
		}
	})
}

func changes(t *testing.T, s *sqlstore.Store, since int64) *webhook.EndpointChanges {
	t.Helper()
	ch, err := s.EndpointChanges(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// summary is changes as "put… -deleted…".
func summary(ch *webhook.EndpointChanges) string {
	var words []string
	for _, ep := range ch.Put {
		words = append(words, ep.ID)
	}
	for _, id := range ch.Deleted {
		words = append(words, "-"+id)
	}
	return strings.Join(words, " ")
}

func TestEndpointChanges(t *testing.T) {
	each(t, allVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		want := func(since int64, want string) int64 {
			t.Helper()
			ch := changes(t, b, since)
			if got := summary(ch); got != want {
				t.Errorf("since %d: %q, want %q", since, got, want)
			}
			return ch.Version
		}
		want(0, "")
		full := fullEndpoint(t)
		put(t, a, webhook.Endpoint{ID: "one", URL: "http://x"}, full)
		v1 := want(0, "one acme")
		if diff := cmp.Diff(full, changes(t, b, 0).Put[1], sameSecret); diff != "" {
			t.Errorf("changed endpoint (-put +got):\n%s", diff)
		}
		if again := want(v1, ""); again != v1 {
			t.Errorf("version %d, want %d as nothing changed", again, v1)
		}
		put(t, a, webhook.Endpoint{ID: "two", URL: "http://x"}, webhook.Endpoint{ID: "one", URL: "http://y"})
		v2 := want(v1, "two one")
		if err := a.DeleteEndpoint(t.Context(), "two"); err != nil {
			t.Fatal(err)
		}
		v3 := want(v2, "-two")
		want(v1, "one -two")
		want(0, "acme one")
		if v1 >= v2 || v2 >= v3 {
			t.Errorf("versions %d, %d, %d do not grow", v1, v2, v3)
		}
		if got := want(v3+5, "acme one"); got != v3 {
			t.Errorf("beyond the latest version: %d, want %d", got, v3)
		}
	})
}

// TestEndpointChangesMissNothing has writers change endpoints while a cache follows: it must end with what is stored,
// never having seen a version twice with other content.
func TestEndpointChangesMissNothing(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		a, b := v.open(t)
		cache := map[string]string{}
		var version int64
		refresh := func() {
			ch := changes(t, b, version)
			if ch.Version < version || ch.Version == version && len(ch.Put)+len(ch.Deleted) > 0 {
				t.Fatalf("version %d after %d with %q", ch.Version, version, summary(ch))
			}
			for _, ep := range ch.Put {
				cache[ep.ID] = ep.URL
			}
			for _, id := range ch.Deleted {
				delete(cache, id)
			}
			version = ch.Version
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			together(6, func(i int) {
				s := []*sqlstore.Store{a, b}[i%2]
				for n := range 30 {
					id := fmt.Sprint("ep", (i+n)%5)
					err := s.PutEndpoint(t.Context(), webhook.Endpoint{ID: id, URL: fmt.Sprintf("http://%d/%d", i, n)})
					if err == nil && n%4 == 3 {
						if err = s.DeleteEndpoint(t.Context(), id); errors.Is(err, webhook.ErrNotFound) {
							err = nil
						}
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}()
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			refresh()
		}
		stored := map[string]string{}
		for _, ep := range changes(t, a, 0).Put {
			stored[ep.ID] = ep.URL
		}
		if diff := cmp.Diff(stored, cache); diff != "" {
			t.Errorf("the cache missed something (-stored +cache):\n%s", diff)
		}
	})
}

// TestEndpointChangesWithinATransaction needs no second connection.
func TestEndpointChangesWithinATransaction(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		d := v.database(t)
		s, db := v.handle(t, d)
		migrate(t, s)
		db.SetMaxOpenConns(1)
		put(t, s, fullEndpoint(t))
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		ch, err := s.Tx(tx).EndpointChanges(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := summary(ch); got != "acme" || ch.Version != 1 {
			t.Errorf("changes %q, version %d", got, ch.Version)
		}
	})
}

func TestEndpointRefused(t *testing.T) {
	each(t, mainVariants[:1], func(t *testing.T, v variant) {
		s, _ := v.open(t)
		tests := []struct {
			field string
			ep    webhook.Endpoint
		}{
			{"ID", webhook.Endpoint{}},
			{"ID", webhook.Endpoint{ID: strings.Repeat("x", 256)}},
			{"Tenant", webhook.Endpoint{ID: "a", Tenant: "\x00"}},
			{"URL", webhook.Endpoint{ID: "a", URL: "http://\xff"}},
			{"Types", webhook.Endpoint{ID: "a", Types: []string{"ok", "\xff"}}},
			{"Profile", webhook.Endpoint{ID: "a", Profile: "\xff"}},
			{"Order", webhook.Endpoint{ID: "a", Order: 9}},
			{"Secrets", webhook.Endpoint{ID: "a", Secrets: make([]webhook.Secret, 1)}},
		}
		for _, tt := range tests {
			err := s.PutEndpoint(t.Context(), tt.ep)
			if fe, ok := errors.AsType[*webhook.FieldError](err); !ok || fe.Field != tt.field {
				t.Errorf("%s: got %v", tt.field, err)
			}
		}
		for _, id := range []string{"", "a\x00", "\xff", strings.Repeat("x", 300)} {
			if _, err := s.GetEndpoint(t.Context(), id); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("Get(%q): %v", id, err)
			}
			if err := s.DeleteEndpoint(t.Context(), id); !errors.Is(err, webhook.ErrNotFound) {
				t.Errorf("Delete(%q): %v", id, err)
			}
		}
	})
}

// TestEndpointPutStraightIntoTheStore: the next send finds it, within a transaction too, and on a pool of one connection.
func TestEndpointPutStraightIntoTheStore(t *testing.T) {
	each(t, mainVariants, func(t *testing.T, v variant) {
		store, db := v.handle(t, v.database(t))
		migrate(t, store)
		db.SetMaxOpenConns(1)
		d, err := webhook.NewDispatcher(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		send := func() error {
			_, err := d.Send(t.Context(), webhook.Event{ID: "plain", Type: "order_create"})
			return err
		}
		sendTx := func() error {
			tx, err := db.BeginTx(t.Context(), nil)
			if err != nil {
				return err
			}
			defer tx.Rollback()
			if _, err := d.SendTx(t.Context(), store.Tx(tx), webhook.Event{ID: "tx", Type: "refund"}); err != nil {
				return err
			}
			return tx.Commit()
		}
		if _, err := d.Send(t.Context(), webhook.Event{Type: "nobody's"}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			id, typ string
			send    func() error
		}{{"tx", "refund", sendTx}, {"plain", "order_create", send}} {
			ep := webhook.Endpoint{ID: step.id, URL: "https://acme.example/hooks", Types: []string{step.typ}, Secrets: []webhook.Secret{webhook.GenerateSecret()}}
			if err := store.PutEndpoint(t.Context(), ep); err != nil {
				t.Fatal(err)
			}
			if err := step.send(); err != nil {
				t.Fatal(err)
			}
			rec, err := store.GetEvent(t.Context(), step.id)
			if err != nil || rec.Deliveries != 1 {
				t.Errorf("%s: %+v, %v, want one delivery", step.id, rec, err)
			}
		}
	})
}
