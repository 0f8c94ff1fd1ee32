/** What a node at work asks of the store (store.ts has the rules): turns of its slots, its pulse, the rescue of others' lanes, its leave. */
import type { Diagnostic, Failure, FailureCode, JobStatus, Origin, RunnableJob } from "../job.js";

export type StartRequest = Pick<TurnRequest, "nodeId" | "claimId" | "want" | "lineFrom">;

/** What a claim gives a node: the right to run one attempt, guarded by node, fence and claim id. */
export interface Claim {
  job: RunnableJob & { priority: number; maxAttempts: number; timeoutMs: number };
  /** Attempts that cost one, before this one. */
  spent: number;
  /** Time-outs and memory kills before this attempt; one is forgiven. */
  strikes: number;
  fence: number;
  claimId: string;
  /** ISO. Null: its lane was taken ahead of a free slot, and the record says pending still; who begins it says so with the next turn. */
  startedAt: string | null;
}

/** A run of a lane that was taken ahead, and when it began by the store's clock as its node reckons it, milliseconds since 1970. */
export interface Begun {
  jobId: string;
  chatId: string;
  attempt: number;
  fence: number;
  claimId: string;
  startedMs: number;
}

/** How an attempt ends, with everything that proves it is still ours. */
export interface Ending {
  jobId: string;
  chatId: string;
  attempt: number;
  fence: number;
  claimId: string;
  /** How long the run itself took, by the node's clock; the rest of the attempt is settling. Absent: it never ran to an end. */
  runMs?: number | undefined;
  /** When the run was over, as its node reckons it; absent: now, by the store's clock. */
  endedMs?: number | undefined;
  /** When it began, where that is on no record yet. */
  startedMs?: number | undefined;
  end:
    | { kind: "completed"; result: string; sourceMap: string | null; warnings: Diagnostic[]; externals: string[]; origin?: Origin | undefined }
    | { kind: "failed"; failure: Failure; error: string; blameless?: boolean; origin?: Origin | undefined }
    /** `blameless`: the machinery failed, not the code, so it counts for no quarantine. */
    | { kind: "retrying"; failure: Failure; error: string; delayMs: number; blameless?: boolean }
    /** Given back by a clean stop; costs no attempt. */
    | { kind: "released" }
    /** Taken ahead and not begun: back in line where it stands, and nothing to record. Settles as `notMine`. */
    | { kind: "returned" };
}

export type Settled =
  /** The guard did not hold: somebody else has the lane, or the outcome was recorded before. Nothing was written. */
  | { kind: "notMine"; jobId: string }
  | {
      kind: "settled";
      jobId: string;
      chatId: string;
      /** May differ from what was offered: a requested cancel wins, and a quarantined code is not tried again. */
      status: JobStatus;
      /** ISO; when a pending job may run again. */
      runAt: string | null;
      quarantined: boolean;
      /** Of the attempt; null when it was built or given back. A requested cancel may have put another in its place. */
      failureCode: FailureCode | null;
    };

export interface TurnRequest {
  nodeId: string;
  /** Made by the node for this call, never used again. */
  claimId: string;
  endings: Ending[];
  /** Lanes wanted, at most. */
  want: number;
  /** As the latest pulse told: claims pass over lanes whose turn is earlier. Absent: they look at all. */
  lineFrom?: number | undefined;
  /** Lease losses of one job after which it fails as `node_lost`. */
  nodeLossesMax?: number;
  /** Waits for a lane that somebody holds, rather than rejecting with ContendedError. */
  patient?: boolean;
  /** Runs of lanes taken ahead that began and are not over. */
  begun?: Begun[];
  /** Lanes to take ahead of free slots, at most, beyond those wanted; nobody else claims them for `handMs`. */
  ahead?: number;
  handMs?: number;
}
export interface TurnAnswer {
  /** In the order of the endings. */
  settled: Settled[];
  /** Those taken ahead last, with no `startedAt`. */
  claims: Claim[];
  /** Of those begun, by job: whose start is on record now, and whose may not be, so that its run counts for nothing. Others: not yet. */
  onRecord: string[];
  refused: string[];
  /** Milliseconds since 1970, by the store's clock, when the claims were made. */
  atMs: number;
}

export interface PulseRequest {
  nodeId: string;
  leaseMs: number;
  slots: number;
  draining: boolean;
  /** Attempts that may run over all nodes; null: as many as there are slots. The lowest of living nodes is in force from this pulse on. */
  clusterCap?: number | null;
}
export interface PulseAnswer {
  /** Everything this node holds by the store's word: compare, and stop what is not in it. */
  held: { chatId: string; jobId: string; attempt: number; fence: number; claimId: string; cancelRequested: boolean }[];
  queuePaused: boolean;
  /** Milliseconds from now until the earliest delayed head may run; null when there is none. */
  nextReadyInMs: number | null;
  /** Lanes that could be claimed now. */
  readyLanes: number;
  /** Milliseconds until the earliest lease of another node that holds lanes ends; ≤ 0: over already; null: none. */
  nextLeaseEndInMs: number | null;
  /** Pending jobs of the whole queue. */
  pending: number;
  /** Milliseconds since 1970, by the store's clock: no ready lane's turn is earlier, nor one's that comes into line later. Null: it does not say. */
  lineFrom: number | null;
}

export interface Rescued {
  jobId: string;
  chatId: string;
  /** `failed` when it lost too many nodes, or its cancel had been requested. */
  status: "pending" | "failed";
}

export interface Working {
  /**
   * One turn of the slots. Records endings whose guard holds (job, attempt, node, fence, claim id, status `running`),
   * puts their lanes back in line, then claims up to `want` lanes from the head of the line and starts their heads.
   * Claims nothing while the queue is paused or when the node's lease is over, and no more than the cluster's cap allows.
   * When it got all it wanted it takes lanes ahead: up to one whose job was tried before, has a priority or quarantined code, or
   * whose lane was in a hand before, and none while the cluster's cap binds or tenants share.
   */
  turn(request: TurnRequest, now?: number): Promise<TurnAnswer>;
  /** Renews the node's lease (registering it at the first time) and tells what a node must know. */
  pulse(request: PulseRequest, now?: number): Promise<PulseAnswer>;
  /** Takes the lanes of nodes whose lease is over back into line; their attempts cost nothing. Each is a loss of a node, unless that one had left or said that it drains. At most `limit` lanes, told in no order. */
  rescue(request: { nodeId: string; nodeLossesMax: number; limit: number }, now?: number): Promise<Rescued[]>;

  /**
   * A node's clean stop: what it still holds goes back in line at once, at the cost of no attempt and as no loss of a
   * node, and its lease ends. A turn of its own that comes later claims nothing.
   */
  leave(request: { nodeId: string }, now?: number): Promise<void>;
  /** Ends the lease of one node, or that of every other node (embedded directory, held alone): as if they had died. */
  endLeases(which: { nodeId: string } | { exceptNodeId: string }, now?: number): Promise<void>;
}
