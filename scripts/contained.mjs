/**
 * A folder and processes that do not outlive this one, however it ends: each command runs in a process group of its own
 * and within its time, and a shell waits for our end (its input ends then, by `kill -9` too), kills the group that is
 * left and deletes the folder.
 */
import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** `read` fails at the end of input, and `group` is the last one that was told. */
const watching = 'group=; while read line; do group=$line; done; [ -n "$group" ] && kill -KILL "-$group"; rm -rf "$1"';

/** For the last lines of a command that is gone, milliseconds. */
const closeMs = 2000;

export function contain(prefix) {
  const folder = mkdtempSync(path.join(tmpdir(), prefix));
  // What the commands put beside it goes with it; other users, such as PostgreSQL's, must get there.
  const temp = path.join(folder, "tmp");
  mkdirSync(temp);
  chmodSync(folder, 0o711);
  chmodSync(temp, 0o1777);
  const watchdog = spawn("/bin/sh", ["-c", watching, "sh", folder], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  watchdog.stdin.on("error", () => {});
  watchdog.unref();
  watchdog.stdin.unref();

  let running = null;
  return {
    folder,
    /** Resolves with its code (null when it was killed), whether it was out of time, and what it printed. Nothing of its group is left then. */
    run([command, ...args], { limitMs, env = {} }) {
      return new Promise((resolve, reject) => {
        const child = spawn(command, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"], detached: true, env: { ...process.env, TMPDIR: temp, ...env } });
        let text = "";
        let outOfTime = false;
        child.stdout.on("data", (data) => (text += data));
        child.stderr.on("data", (data) => (text += data));
        child.on("error", reject);
        child.on("spawn", () => {
          running = child.pid;
          watchdog.stdin.write(`${child.pid}\n`);
        });
        const timer = setTimeout(() => {
          outOfTime = true;
          killGroup(child.pid);
        }, limitMs);
        child.on("exit", (code) => {
          clearTimeout(timer);
          killGroup(child.pid);
          running = null;
          watchdog.stdin.write("\n");
          const tell = () => resolve({ code, outOfTime, text });
          child.on("close", tell);
          // Who left the group may hold its output open: that is no reason to wait for ever.
          setTimeout(tell, closeMs).unref();
        });
      });
    },
    dispose() {
      if (running !== null) killGroup(running);
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
      watchdog.stdin.end();
    },
  };
}

function killGroup(pid) {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nobody of it is left.
  }
}
