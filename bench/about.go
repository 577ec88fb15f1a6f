package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// about is what figures depend on: the machine, how busy it is, and the versions of what is compared.
func about() string {
	parts := []string{fmt.Sprintf("%s %s/%s, %d CPUs, GOMAXPROCS %d", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.GOMAXPROCS(0))}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(load)); len(f) > 2 {
			parts = append(parts, "load average at the start "+strings.Join(f[:3], " "))
		}
	}
	compared := []string{
		"github.com/riverqueue/river", "github.com/ThreeDotsLabs/watermill-sql/v3", "github.com/ThreeDotsLabs/watermill-http/v2",
		"github.com/jackc/pgx/v5", "github.com/go-sql-driver/mysql", "modernc.org/sqlite",
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if slices.Contains(compared, m.Path) {
				parts = append(parts, m.Path+" "+m.Version)
			}
		}
	}
	return strings.Join(parts, "; ")
}
