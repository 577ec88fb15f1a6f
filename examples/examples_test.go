package examples_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The quickstart checks its own figures; it must do so within 10 s once built.
func TestQuickstart(t *testing.T) {
	bin := build(t, "quickstart")
	began := time.Now()
	out, err := exec.Command(bin).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if strings.Contains(string(out), "WRONG") || !strings.Contains(string(out), "Summary") {
		t.Errorf("it printed:\n%s", out)
	}
}

// A wrong figure must end it with status 1: with one event, only one of the two requests that are to fail can.
func TestQuickstartFailsWhenAFigureIsWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "one.json")
	if err := os.WriteFile(file, []byte(`[{"type":"order_create","data":{"permalink_url":"https://gett.com/orders/1"}}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(build(t, "quickstart"), "-events", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "WRONG") {
		t.Errorf("it ended with %v and printed:\n%s", err, out)
	}
}

func TestOutbox(t *testing.T) {
	if out, err := exec.Command(build(t, "outbox")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestExactlyOnce(t *testing.T) {
	out, err := exec.Command(build(t, "exactlyonce")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "11 runs, the first failed, 10 bookings") {
		t.Errorf("%v\n%s", err, out)
	}
}

func build(t *testing.T, name string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", bin, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", name, err, out)
	}
	return bin
}
