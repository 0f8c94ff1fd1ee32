/** How much one build may answer; kept by the worker, and looked at again by the pool. */
export interface BuildLimits {
  outputBytesMax: number;
  diagnosticsMax: number;
  diagnosticTextCharsMax: number;
  diagnosticLineCharsMax: number;
  errorCharsMax: number;
}
