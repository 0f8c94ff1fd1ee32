/** How much one build may answer. What a worker says is bounded before it is read, by `outputBytesMax` and this. */
export interface BuildLimits {
  outputBytesMax: number;
  diagnosticsMax: number;
  diagnosticTextCharsMax: number;
  diagnosticLineCharsMax: number;
  errorCharsMax: number;
}

/** Of one answer's messages with the lines that they quote; a minified line of 500 KB with twenty warnings passes. */
export const messageBytesMax = 16 * 1024 * 1024;
