// Command bench measures the library on each store, beside what it cannot beat: the same requests without a store, the
// same hash without a signer. It prints tables in Markdown; docs/performance.md tells what they mean.
//
//	go run . -only dispatch -n 15000 -rounds 3
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
)

func main() {
	if slices.Contains(os.Args[1:], receiverFlag) {
		exitOn(serveReceiver())
		return
	}
	exitOn(run(os.Args[1:]))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	only       string
	stores     string
	n          int
	rounds     int
	endpoints  int
	inFlight   int
	senders    int
	rawSenders int
	ordered    bool
	json       string
	profile    string
}

func run(args []string) error {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.only, "only", "dispatch,claim,noisy,sign", "what to measure, separated by commas; million is noisy with 1,000,000 waiting")
	fs.StringVar(&o.stores, "stores", "memory,sqlite,postgres,mariadb", "on which stores, separated by commas")
	fs.IntVar(&o.n, "n", 15_000, "dispatch: deliveries a round")
	fs.IntVar(&o.rounds, "rounds", 3, "dispatch: rounds")
	fs.IntVar(&o.endpoints, "endpoints", 16, "dispatch: endpoints, all at one receiver")
	fs.IntVar(&o.inFlight, "inflight", 0, "dispatch: attempts under way at once to one endpoint; 0: the library's default")
	fs.IntVar(&o.senders, "senders", 0, "dispatch: attempts under way at once in all; 0: the library's default")
	fs.IntVar(&o.rawSenders, "raw-senders", 64, "dispatch: goroutines of net/http without a store")
	fs.BoolVar(&o.ordered, "ordered", false, "claim: give every delivery an ordering key of its own")
	fs.StringVar(&o.json, "json", "", "write all figures to this file")
	fs.StringVar(&o.profile, "profile", "", "dispatch: write profiles of the drains to this folder")
	if err := fs.Parse(args); err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	measures := map[string]func(*options) ([]*table, error){
		"dispatch": measureDispatch, "claim": measureClaims, "noisy": measureNoisy, "million": measureMillion, "sign": measureSign,
	}
	var tables []*table
	for _, name := range splitNames(o.only) {
		measure := measures[name]
		if measure == nil {
			return fmt.Errorf("-only %s: unknown", name)
		}
		got, err := measure(&o)
		for _, t := range got {
			t.print(os.Stdout)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		tables = append(tables, got...)
	}
	if o.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(tables, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(text, '\n'), 0o644)
}

func measureDispatch(o *options) ([]*table, error) {
	backends, stop, err := openBackends(o.stores)
	if err != nil {
		return nil, err
	}
	defer stop()
	r, err := startReceiver()
	if err != nil {
		return nil, err
	}
	defer r.stop()
	b := &dispatchBench{
		n: o.n, rounds: o.rounds, endpoints: o.endpoints, inFlight: o.inFlight, senders: o.senders, rawSenders: o.rawSenders,
		only: -1, receiver: r, profile: &profiler{o.profile},
	}
	err = b.run(backends)
	return []*table{b.table}, err
}

func splitNames(s string) []string { return strings.Split(s, ",") }
