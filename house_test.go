package webhook_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rules of the house (CONTRIBUTING.md), held against the whole tree. The rules themselves are in house_rules_test.go,
// where each is also shown to find what it is there for.
func TestHouse(t *testing.T) {
	files := readTree(t)
	report := func(t *testing.T, offences []string) {
		t.Helper()
		for _, o := range offences {
			t.Error(o)
		}
	}
	t.Run("requirements", func(t *testing.T) { report(t, badRequirements(requirements(t))) })
	t.Run("imports", func(t *testing.T) { report(t, collect(files, badImports)) })
	t.Run("names", func(t *testing.T) { report(t, collect(files, badNames)) })
	t.Run("sizes", func(t *testing.T) { report(t, collect(files, badSizes)) })
	t.Run("docs", func(t *testing.T) {
		report(t, collect(files, undocumented))
		report(t, packagesWithoutComment(files))
	})
	t.Run("workspace", func(t *testing.T) { report(t, badWorkspace(modules(files), workspace(t))) })
	t.Run("linked", func(t *testing.T) { report(t, badLinked(linked(t))) })
	t.Run("paths", func(t *testing.T) {
		for _, name := range trackedFiles(t) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			report(t, machinePaths(name, text))
		}
	})
}

// goFile is a parsed file of the tree.
type goFile struct {
	path   string // from the root, with slashes
	module string // folder of its module from the root; "." for the root module
	fset   *token.FileSet
	ast    *ast.File
	lines  int
}

// dir is the folder of the file's package from the root; "." for the root.
func (f goFile) dir() string { return path.Dir(f.path) }

// test reports whether the file is compiled for tests only.
func (f goFile) test() bool { return strings.HasSuffix(f.path, "_test.go") }

// parse makes a goFile of its text.
func parse(name, module string, src []byte) (goFile, error) {
	fset := token.NewFileSet()
	a, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	return goFile{name, module, fset, a, bytes.Count(src, []byte("\n"))}, err
}

func collect(files []goFile, rule func(goFile) []string) []string {
	var all []string
	for _, f := range files {
		all = append(all, rule(f)...)
	}
	return all
}

// readTree parses every Go file of every module, but for what the go command ignores.
func readTree(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	var modules []string // folders of nested modules
	err := fs.WalkDir(os.DirFS("."), ".", func(name string, d fs.DirEntry, err error) error {
		switch base := path.Base(name); {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_'):
			return fs.SkipDir
		case d.IsDir() && name != ".":
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				modules = append(modules, name)
			}
		case path.Ext(base) == ".go":
			src, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			f, err := parse(name, moduleOf(name, modules), src)
			if err != nil {
				return err
			}
			files = append(files, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("read only %d files: the walk is broken", len(files))
	}
	return files
}

// moduleOf is the innermost of the nested modules that name is in.
func moduleOf(name string, modules []string) string {
	for _, m := range slices.Backward(modules) {
		if strings.HasPrefix(name, m+"/") {
			return m
		}
	}
	return "."
}

// requirements lists the modules that go.mod requires, direct or not.
func requirements(t *testing.T) []string {
	t.Helper()
	var mod struct{ Require []struct{ Path string } }
	if err := json.Unmarshal(output(t, "go", "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, r := range mod.Require {
		paths = append(paths, r.Path)
	}
	return paths
}

// workspace lists the folders that go.work ties together.
func workspace(t *testing.T) []string {
	t.Helper()
	var work struct{ Use []struct{ DiskPath string } }
	if err := json.Unmarshal(output(t, "go", "work", "edit", "-json", "go.work"), &work); err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, u := range work.Use {
		dirs = append(dirs, path.Clean(filepath.ToSlash(u.DiskPath)))
	}
	return dirs
}

// modules lists the folders of the modules that have Go files.
func modules(files []goFile) []string {
	var dirs []string
	for _, f := range files {
		dirs = append(dirs, f.module)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// linked lists what a program gets that imports all packages of the root module: packages outside of the standard library.
func linked(t *testing.T) []string {
	t.Helper()
	return strings.Fields(string(output(t, "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./...")))
}

// trackedFiles lists what git tracks or, outside of a checkout, all files but hidden folders.
func trackedFiles(t *testing.T) []string {
	t.Helper()
	if out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output(); err == nil {
		var names []string
		for name := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
			if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
				names = append(names, name)
			}
		}
		return names
	}
	var names []string
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && name == ".git" {
			return fs.SkipDir
		}
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	return out
}
