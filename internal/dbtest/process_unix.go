//go:build unix

package dbtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a server and the shell that watches over it.
//
// The shell is the server's parent and reads from a pipe whose other end only the test binary holds. A line on the pipe is
// the signal to end the server with; the pipe's end means that the test binary is gone, however it went, and then the server
// is ended at once and its folder removed. Unlike Pdeathsig this follows the process, not a thread, and works beyond Linux.
type process struct {
	dir   string // of everything the server writes, its socket and log included
	abort string // signal that ends it at once, cleaning up no data but its shared memory
	args  []string
	cred  *syscall.Credential
	ping  func() error

	watchdog *exec.Cmd
	pipe     io.WriteCloser
	pid      int
}

const watchdogScript = `
dir=$1; abort=$2; shift 2
"$@" </dev/null >>"$dir/log" 2>&1 &
pid=$!
echo $pid
if read -r signal; then
	kill -s "$signal" $pid
	wait $pid
else
	kill -s "$abort" $pid
	wait $pid
	cd / && rm -rf "$dir"
fi
exit 0
`

// newProcess makes the folder and finds the user to run as: root may not run a database server, so it drops to
// the first of users that exists.
func newProcess(o Options, users ...string) (*process, error) {
	p := &process{}
	uid, gid := -1, -1
	if os.Geteuid() == 0 {
		for _, name := range append(users, "nobody") {
			u, err := user.Lookup(name)
			if err != nil {
				continue
			}
			uid, _ = strconv.Atoi(u.Uid)
			gid, _ = strconv.Atoi(u.Gid)
			p.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false}
			break
		}
		if p.cred == nil {
			return nil, errors.New("dbtest: a database server does not run as root, and there is no user to drop to")
		}
	}
	base, err := baseDir(o.Durable)
	if err != nil {
		return nil, err
	}
	p.dir, err = os.MkdirTemp(base, "whdb")
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	if uid >= 0 {
		if err := os.Chown(p.dir, uid, gid); err != nil {
			return nil, fmt.Errorf("dbtest: %w", err)
		}
	}
	return p, nil
}

// baseDir is where a server's folder goes: memory, unless it must survive; reachable by other users; short enough for the
// path of a socket, which ends at 104 bytes on the narrowest system.
func baseDir(durable bool) (string, error) {
	candidates := []string{"/dev/shm", os.TempDir(), "/tmp", "/var/tmp"}
	if durable {
		candidates = []string{os.TempDir(), "/tmp", "/var/tmp"}
	}
	for _, dir := range candidates {
		if len(dir) > 60 || !enterable(dir) || durable && inMemory(dir) {
			continue
		}
		f, err := os.CreateTemp(dir, "whdb")
		if err != nil {
			continue
		}
		f.Close()
		os.Remove(f.Name())
		return dir, nil
	}
	return "", fmt.Errorf("dbtest: none of %s can hold a server's data", strings.Join(candidates, ", "))
}

func enterable(dir string) bool {
	for dir = filepath.Clean(dir); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&1 == 0 && os.Geteuid() == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

func inMemory(dir string) bool {
	var st syscall.Statfs_t
	const tmpfs = 0x01021994
	return syscall.Statfs(dir, &st) == nil && int64(st.Type) == tmpfs
}

// run runs a command of the server's set-up to its end.
func (p *process) run(args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "TMPDIR="+p.dir, "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("dbtest: %s: %w\n%s", filepath.Base(args[0]), err, out)
	}
	return nil
}

// start starts the server under a new watchdog and waits until it answers.
func (p *process) start() error {
	cmd := exec.Command("/bin/sh", append([]string{"-c", watchdogScript, "watchdog", p.dir, p.abort}, p.args...)...)
	cmd.Dir = p.dir
	// A group of its own, so that an interrupt at the terminal reaches the test binary alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred, Setpgid: true}
	cmd.Env = append(os.Environ(), "HOME="+p.dir, "TMPDIR="+p.dir, "LC_ALL=C")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	p.watchdog, p.pipe = cmd, stdin
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return fmt.Errorf("dbtest: start: %w", err)
	}
	if p.pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return fmt.Errorf("dbtest: start: %w", err)
	}
	if err := p.await(); err != nil {
		p.end("KILL")
		return err
	}
	return nil
}

func (p *process) await() error {
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = p.ping(); err == nil {
			return nil
		}
	}
	log, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return fmt.Errorf("dbtest: the server does not answer: %w\n%s", err, log[max(0, len(log)-2000):])
}

// end ends the server with a signal and waits until it is gone.
func (p *process) end(signal string) {
	if p.watchdog == nil {
		return
	}
	children := p.children()
	io.WriteString(p.pipe, signal+"\n")
	if signal == "KILL" {
		// PostgreSQL's backends outlive the postmaster for a moment; a crash takes them all.
		for _, pid := range children {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	p.watchdog.Wait()
	p.pipe.Close()
	p.watchdog = nil
}

// children lists the server's own child processes, where the system tells.
func (p *process) children() []int {
	list, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid, p.pid))
	var pids []int
	for _, f := range strings.Fields(string(list)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (p *process) remove() {
	p.end(p.abort)
	os.RemoveAll(p.dir)
}
