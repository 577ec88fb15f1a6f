package webhook

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// docs/features.md names tests that exist.
func TestFeaturesNameTests(t *testing.T) {
	text, err := os.ReadFile("docs/features.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, dir := range []string{".", "internal/dbtest", "storetest", "memstore", "profile", "webhooktest", "payload/*"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatal(dir, err)
		}
		for _, file := range files {
			code, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Example)\w+)\(`).FindAllSubmatch(code, -1) {
				exists[string(m[1])] = true
			}
		}
	}
	named := regexp.MustCompile("`((?:Test|Example)\\w+)`").FindAllSubmatch(text, -1)
	if len(named) < 90 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, m := range named {
		if !exists[string(m[1])] {
			t.Errorf("%s does not exist", m[1])
		}
	}
}
