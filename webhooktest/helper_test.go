package webhooktest_test

import (
	"flag"
	"io"
	"log/slog"
	"os"
	"testing"
)

// run runs a test from within an example, which has no *testing.T, once and without the lines that -v prints.
func run(test func(*testing.T)) bool {
	before := slog.Default() // of the middleware
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer slog.SetDefault(before)
	for name, value := range map[string]string{"test.v": "false", "test.count": "1"} {
		f := flag.Lookup(name)
		was := f.Value.String()
		_ = f.Value.Set(value)
		defer func() { _ = f.Value.Set(was) }()
	}
	ok := testing.RunTests(func(_, _ string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "example", F: test}})
	if !ok {
		_, _ = os.Stderr.WriteString("the example's test failed\n")
	}
	return ok
}
