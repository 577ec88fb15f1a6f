package storetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
	"testing"
)

// contract returns the comments of the files, each in one line and without the marks of doc links.
func contract(t *testing.T, files ...string) (comments []string) {
	t.Helper()
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range f.Comments {
			comments = append(comments, plainText(group))
		}
	}
	return comments
}

func plainText(group *ast.CommentGroup) string {
	text := strings.NewReplacer("[", "", "]", "").Replace(group.Text())
	return strings.Join(strings.Fields(text), " ")
}

// TestReasons checks that each case's reason is still written in the contract.
func TestReasons(t *testing.T) {
	all := strings.ToLower(strings.Join(contract(t, "../store.go", "../store_state.go", "../store_life.go", "../store_query.go", "../store_replay.go", "../webhook.go"), "\n"))
	seen := map[string]bool{}
	for _, c := range Cases() {
		if seen[c.Name] {
			t.Errorf("two cases are called %s", c.Name)
		}
		seen[c.Name] = true
		for _, part := range strings.Split(c.Reason, " … ") {
			if !strings.Contains(all, strings.ToLower(part)) {
				t.Errorf("%s: the contract does not say %q", c.Name, part)
			}
		}
	}
}

// TestEverySentence checks that each sentence of the contract is the reason of a case, or stands among those that need none.
func TestEverySentence(t *testing.T) {
	var reasons []string
	for _, c := range Cases() {
		reasons = append(reasons, strings.Split(strings.ToLower(c.Reason), " … ")...)
	}
	left, said := map[string]bool{}, map[string]bool{}
	for _, sentences := range unproven() {
		for _, s := range sentences {
			left[s] = true
		}
	}
	for _, comment := range contract(t, "../store.go", "../store_state.go", "../store_life.go", "../store_query.go", "../store_replay.go") {
		for _, sentence := range sentences(comment) {
			if promises(sentence) && !left[sentence] && !covered(strings.ToLower(sentence), reasons) {
				t.Errorf("no case proves: %s", sentence)
			}
			said[sentence] = true
		}
	}
	for s := range left {
		if !said[s] {
			t.Errorf("not a sentence of the contract: %s", s)
		}
	}
}

func covered(sentence string, reasons []string) bool {
	for _, r := range reasons {
		if strings.Contains(sentence, r) || strings.Contains(r, sentence) {
			return true
		}
	}
	return false
}

func sentences(comment string) (all []string) {
	for s := range strings.SplitSeq(comment, ". ") {
		if s = strings.Trim(s, ". "); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// promises reports whether a sentence promises anything: those that only say what belongs to what do not.
func promises(sentence string) bool {
	for _, words := range []string{" is the argument of ", " is the answer of ", "The answers of ", "The outcomes of ", "The classes of "} {
		if strings.Contains(sentence, words) {
			return false
		}
	}
	return true
}

// unproven are the sentences that no case proves, by why not.
func unproven() map[string][]string {
	return map[string][]string{
		"they say what things are called or for": {
			"Package memstore has it in memory, package sqlstore on SQLite, PostgreSQL and MySQL or MariaDB; docs/writing-a-store.md tells how to write another, and package storetest proves every sentence below on it",
			"Time: every request carries Now, the store's clock as the caller estimates it",
			"Enqueuer writes events",
			"It is part of every Store, and what sqlstore's Tx returns for the caller's own transaction",
			"NewEvent is an event with the deliveries it fans out to", "with its ID",
			"of all that the caller gave: tells a repeat from a conflict",
			"NewDelivery is a delivery to be queued", "EnqueueStatus says what became of one event",
			"Class tells the two lanes of an endpoint apart", "LaneID names a lane", "Lane is a lane with work",
			"LaneClaim asks for deliveries of one lane", "LaneStatus says how a claim left a lane", "LeaseRef names a lease and its new end",
			"Outcome is what became of a claimed delivery", "Next decides the rest", "OutcomeStatus says what became of one outcome or lease",
			"HoldStore pauses endpoints and releases ordering keys", "machine-readable: HoldPaused, HoldDisabled, …", "in words",
			"EndpointStore keeps endpoints", "DedupeStore remembers idempotency keys, so that a receiver processes each once",
			"KeyStatus is what Begin found", "StoredResponse is the part of a response that is kept for repeats",
			"QueryStore answers the questions of people", "None of it is needed to deliver", "EventRecord is a stored event",
			"KeyHead is what stands first in an ordering key", "Pruner forgets what has served its time", "Eraser erases what was sent for a tenant",
			"StateStore keeps what the dispatchers on a store have to agree on about each endpoint",
			"It goes with HoldStore: a hold is part of an endpoint's state",
			"Without it a dispatcher knows the health of endpoints only from its own attempts, and switches none off",
			"The kinds of hold that the library itself uses (HoldStatus.Kind)", "by a person", "the endpoint answered 410 Gone",
			"nothing but failures for longer than the endpoint's policy bears", "it has not shown yet that it wants what it gets",
			"EndpointState is what all dispatchers know about sending to an endpoint",
			"ReplayStore queues new deliveries of events that are stored, and keeps replays", "Without it nothing can be replayed",
			"RedeliverStatus says what became of one redelivery", "ReplayStep is how far a claimed replay has got",
			"LifeStore ends deliveries before their time and counts those that wait", "EndpointBacklog is what waits for an endpoint",
			"Without it nothing can be canceled, backlogs have no bound, and what expires while nobody claims it ends only when its turn comes",
		},
		"they are the caller's duty": {"no delivery twice", "no endpoint twice", "change must be quick, may be called several times, and must not call the store; what it makes of the ID does not count", "chosen headers; never Set-Cookie"},
		"they are about cost, which a test of the store's plans shows": {
			"Fairness between lanes is the dispatcher's: the store tells which lanes have work (Lanes) and hands out rows of the lanes that it is asked for (Claim), so the backlog of a lane that nobody asks for costs nothing",
			"Its cost is one probe a lane, however long the lanes are, and a look at what is leased at the head of a lane",
			"Work is bounded by what is returned and by the lanes named, not by their backlog, and by what is leased of them",
			"When nothing changed it costs one lookup",
			"Its cost grows with the number of holds, not with that of endpoints",
		},
		"it takes a lock of the database's own": {
			"Claim skips what another transaction has locked rather than wait for it",
			"PutStates waits for no enqueue and for no claim longer than those take",
		},
		"it takes a cipher, and a key that is missing; internal/dbtest shows them": {
			"Unreadable says, by ID, of which Endpoints the store could not open what it keeps sealed, and why",
			"They are without it: put none of them back",
			"Unreadable says, by ID, of which endpoints in Put the store could not open what it keeps sealed, and why (ErrUnknownKey, …)",
			"They have their Tenant, Types and policies, so that events for them are stored; deliveries wait until GetEndpoint can read them",
		},
		"it takes a row that somebody broke; internal/dbtest shows them": {
			"Unreadable says why Event, which then has its ID alone, could not be read; nil: it is whole", "It keeps no other from being claimed",
			"So it is with what is unreadable otherwise; Types that are count as all",
			"why its header, which is empty here, could not be read; nil: it was",
		},
		"it is about dispatchers":                           {"Dispatchers notice within a second, and before they record that an event matches no endpoint"},
		"it cannot be seen from outside":                    {"whom leased rows belong to"},
		"it would take more than a thousand requests":       {"zero: 1,000"},
		"they leave something free, which no case asks for": {"What is stored, ends or goes meanwhile may be missed; nothing else is, and nothing comes twice", "A store may count into OldestDue what no claim has met yet"},
	}
}
