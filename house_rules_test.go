package webhook_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	modulePath  = "github.com/signalpost/webhook"
	maxFile     = 500 // lines: a file stays under it
	maxFunction = 60  // lines: a function stays under it
)

// badRequirements lists the modules that the root module may not require.
func badRequirements(paths []string) []string {
	allowed := []string{"golang.org/x/sync", "github.com/google/go-cmp", "go.uber.org/goleak"}
	var bad []string
	for _, p := range paths {
		if !slices.Contains(allowed, p) {
			bad = append(bad, "go.mod requires "+p)
		}
	}
	return bad
}

// badLinked lists the packages that a user's program would get besides ours and x/sync.
func badLinked(packages []string) []string {
	var bad []string
	for _, p := range packages {
		if !within(p, modulePath) && !within(p, "golang.org/x/sync") {
			bad = append(bad, "a package outside of tests brings in "+p)
		}
	}
	return bad
}

// badWorkspace compares the modules there are with those in go.work. bench stays outside, for what its peers require.
func badWorkspace(modules, used []string) []string {
	var bad []string
	for _, m := range modules {
		if m != "bench" && !slices.Contains(used, m) {
			bad = append(bad, "go.work lacks module "+m)
		}
	}
	if slices.Contains(used, "bench") {
		bad = append(bad, "go.work ties bench in")
	}
	return bad
}

// within reports whether an import path is root or below it.
func within(p, root string) bool { return p == root || strings.HasPrefix(p, root+"/") }

// badImports lists the imports of a file that break the rules of the house.
func badImports(f goFile) []string {
	var bad []string
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if why := badImport(f, p); why != "" {
			bad = append(bad, fmt.Sprintf("%s imports %s: %s", f.fset.Position(spec.Pos()), p, why))
		}
	}
	return bad
}

// badImport says why f may not import p; "" when it may.
func badImport(f goFile, p string) string {
	from := part(f.dir())
	to, ours := "", within(p, modulePath)
	if ours {
		to = part(strings.TrimPrefix(strings.TrimPrefix(p, modulePath), "/"))
	}
	helpers := to == "storetest" || to == "webhooktest"
	switch {
	case helpers && !f.test() && from != to:
		return "storetest and webhooktest are for tests only"
	case f.module != ".": // nested modules exist to import what the root may not
		return ""
	case !ours && standard(p), within(p, "golang.org/x/sync"):
		return ""
	case !ours && f.test() && (within(p, "github.com/google/go-cmp") || within(p, "go.uber.org/goleak")):
		return ""
	case !ours:
		return "the root module imports the standard library and x/sync; what needs more is a module of its own"
	case f.test(), to == "internal", from == to:
		return ""
	case from == ".":
		return "the root imports none of its own packages but internal ones"
	case to == ".":
		return ""
	}
	return "packages beside the root import the root, never each other"
}

// part is the first element of a package's folder: what the import rules are about. "." for the root.
func part(dir string) string {
	if dir == "" {
		return "."
	}
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// standard reports whether p belongs to the standard library: its first element has no dot.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}

// badNames finds packages whose name says nothing.
func badNames(f goFile) []string {
	vague := []string{"util", "utils", "common", "types", "models", "helper", "helpers", "misc"}
	name := strings.TrimSuffix(f.ast.Name.Name, "_test")
	if slices.Contains(vague, name) || slices.Contains(vague, path.Base(f.dir())) {
		return []string{fmt.Sprintf("%s: a package called %s says nothing", f.path, name)}
	}
	return nil
}

// badSizes finds files and functions that are too long. Tests may be longer.
func badSizes(f goFile) []string {
	if f.test() {
		return nil
	}
	var bad []string
	if f.lines >= maxFile {
		bad = append(bad, fmt.Sprintf("%s has %d lines, want fewer than %d", f.path, f.lines, maxFile))
	}
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from, to := f.fset.Position(fn.Pos()), f.fset.Position(fn.End())
		if n := to.Line - from.Line + 1; n >= maxFunction {
			bad = append(bad, fmt.Sprintf("%s: %s has %d lines, want fewer than %d", from, fn.Name.Name, n, maxFunction))
		}
	}
	return bad
}

// public reports whether users can import f's package, of whichever module.
func public(f goFile) bool {
	return !f.test() && f.ast.Name.Name != "main" && !slices.Contains(strings.Split(f.dir(), "/"), "internal")
}

// undocumented finds exported functions, methods, types, constants and variables without a doc comment. For one of a group
// the comment of the group or one at the end of its line will do.
func undocumented(f goFile) []string {
	if !public(f) {
		return nil
	}
	var bad []string
	miss := func(name *ast.Ident) {
		bad = append(bad, fmt.Sprintf("%s: %s has no doc comment", f.fset.Position(name.Pos()), name.Name))
	}
	for _, d := range f.ast.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Doc == nil && d.Name.IsExported() && (d.Recv == nil || exportedReceiver(d.Recv.List[0].Type)) {
				miss(d.Name)
			}
		case *ast.GenDecl:
			for _, name := range undocumentedIn(d) {
				miss(name)
			}
		}
	}
	return bad
}

// undocumentedIn finds the exported names of a declaration that have no comment.
func undocumentedIn(d *ast.GenDecl) []*ast.Ident {
	var bad []*ast.Ident
	if d.Doc != nil {
		return nil
	}
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Doc == nil && s.Comment == nil && s.Name.IsExported() {
				bad = append(bad, s.Name)
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if s.Doc == nil && s.Comment == nil && name.IsExported() {
					bad = append(bad, name)
				}
			}
		}
	}
	return bad
}

// exportedReceiver reports whether a method belongs to an exported type.
func exportedReceiver(t ast.Expr) bool {
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
		case *ast.IndexExpr:
			t = x.X
		case *ast.IndexListExpr:
			t = x.X
		case *ast.Ident:
			return token.IsExported(x.Name)
		default:
			return false
		}
	}
}

// packagesWithoutComment finds public packages and programs of which no file has a package comment.
func packagesWithoutComment(files []goFile) []string {
	has := make(map[string]bool)
	for _, f := range files {
		if !f.test() {
			has[f.dir()] = has[f.dir()] || f.ast.Doc != nil
		}
	}
	var bad []string
	for dir, ok := range has {
		if !ok {
			bad = append(bad, dir+": no file has a package comment")
		}
	}
	slices.Sort(bad)
	return bad
}

// machinePath matches absolute paths of a particular machine, which say nothing on another.
var machinePath = regexp.MustCompile(`(?:^|[^\w.:/~-])/(?:work|farm|root|home/\w+|Users/\w+)/`)

// machinePaths finds such paths in the lines of a text file. What is not UTF-8 or has NULs is not text.
func machinePaths(name string, text []byte) []string {
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return nil
	}
	var bad []string
	n := 0
	for line := range bytes.Lines(text) {
		n++
		if machinePath.Match(line) {
			bad = append(bad, fmt.Sprintf("%s:%d has a path of somebody's machine: %s", name, n, bytes.TrimSpace(line)))
		}
	}
	return bad
}
