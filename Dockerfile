# Buildlane as a service. Build: docker build -t buildlane . Run: see compose.yaml, or
#   docker run -p 127.0.0.1:3001:3001 -v buildlane:/data -e BUILDLANE_INSECURE=true buildlane
# An address other than loopback wants API keys (buildlane keys create) before it is reachable; BUILDLANE_INSECURE is for
# a port that is published to this machine alone.

FROM node:22-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY scripts ./scripts
COPY machines ./machines
COPY migrations ./migrations
COPY bin ./bin
COPY src ./src
RUN node scripts/build.mjs && npm prune --omit=dev --ignore-scripts

FROM node:22-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3001 BUILDLANE_DATA_DIR=/data
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/bin ./bin
COPY --from=build /app/machines ./machines
COPY --from=build /app/migrations ./migrations
# Nothing of it runs as root, and it writes to one folder only.
RUN mkdir /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 3001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/readyz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
# Node itself is process 1, so that a stop's signal reaches it and the builds are drained (BUILDLANE_DRAIN_MS).
STOPSIGNAL SIGTERM
CMD ["node", "bin/buildlane.mjs", "serve"]
