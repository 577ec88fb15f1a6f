package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/signalpost/webhook/memstore"
)

func TestMemstore(t *testing.T) {
	Run(t, func(t *testing.T) Harness {
		return Harness{Store: memstore.New(), Without: []string{"Tx", "OpenTx"}}
	})
}

// red returns the names of the cases that fail on the store that open opens; those of random operations count as one, "Random".
func red(t *testing.T, cases []Case, open func() Harness) (names []string) {
	for _, c := range cases {
		err := c.Check(open)
		if err == nil || errors.Is(err, ErrSkipped) {
			continue
		}
		name, _, random := strings.Cut(c.Name, "/")
		if !random || name != "Random" {
			name = c.Name
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
		t.Logf("%s: %v", c.Name, err)
	}
	return names
}

// unshrunk returns all cases, those of random operations without their search for a shorter sequence.
func unshrunk() []Case {
	cases := slices.DeleteFunc(Cases(), func(c Case) bool { return strings.HasPrefix(c.Name, "Random/") })
	return append(cases, randomCases(0)...)
}

// TestBroken checks that each broken store turns exactly the cases red that are named, and no other.
func TestBroken(t *testing.T) {
	for _, tt := range slices.Concat(brokenStores(), brokenStateStores(), brokenLifeStores(), brokenQueryStores(), brokenReplayStores()) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := red(t, unshrunk(), func() Harness {
				return Harness{Store: tt.breaks(memstore.New()), Without: []string{"Tx", "OpenTx"}}
			})
			wantRed(t, got, tt.red)
		})
	}
}

// wantRed fails unless exactly the cases wanted are red. With "?" a case may be red or not: that is a matter of timing.
func wantRed(t *testing.T, got, want []string) {
	t.Helper()
	for _, name := range got {
		if !slices.Contains(want, name) && !slices.Contains(want, name+"?") {
			t.Errorf("%s is red, and should be green", name)
		}
	}
	for _, name := range want {
		if !slices.Contains(got, name) && !strings.HasSuffix(name, "?") {
			t.Errorf("%s is green, and should be red", name)
		}
	}
}
