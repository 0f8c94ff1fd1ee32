/** The machines of Buildlane: a supervisor per node, a chat actor per lane it holds, a job machine per attempt at work. */
export { chatMachine } from "./chat.machine.js";
export { jobMachine } from "./job.machine.js";
export { supervisorMachine } from "./supervisor.machine.js";
