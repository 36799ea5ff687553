{{/*
Read by Ray and Serve at import, on every node alike: cluster/control/head.py says why each is there, and a test keeps
the two equal.
*/}}
{{- define "longreach.rayEnv" -}}
- {name: RAY_SERVE_THROUGHPUT_OPTIMIZED, value: "1"}
- {name: RAY_SERVE_ENABLE_HA_PROXY, value: "0"}
- {name: RAY_SERVE_ENABLE_DIRECT_INGRESS, value: "1"}
- {name: RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT, value: "30000"}
- {name: RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT, value: "30999"}
- {name: RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S, value: "3"}
- {name: RAY_SERVE_LOG_TO_STDERR, value: "0"}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
{{- if eq .Values.ray.auth.mode "disabled" }}
- {name: RAY_AUTH_MODE, value: disabled}
{{- end }}
- {name: RAY_DISABLE_DOCKER_CPU_WARNING, value: "1"}
- {name: RAY_enable_worker_prestart, value: "0"}
- {name: RAY_worker_niceness, value: "0"}
- {name: RAY_ENABLE_UV_RUN_RUNTIME_ENV, value: "0"}
- {name: RAY_DEDUP_LOGS, value: "0"}
- {name: SPT_NOENV, value: "1"}
# The preStop hook has drained already, and Serve has nowhere to put a replica of a cluster that ends.
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: "0"}
- {name: LONGREACH_CACHE, value: /models}
- {name: LONGREACH_STATE, value: /var/lib/longreach}
- {name: HOME, value: /var/lib/longreach}
{{ include "longreach.credentialEnv" . }}
{{- with include "longreach.otelEnv" . }}
{{ trim . }}
{{- end }}
{{- end -}}

{{/* Ray's client of the GCS store trusts nobody by itself, not even the system's authorities. */}}
{{- define "longreach.gcsEnv" -}}
{{- $gcs := .Values.redis.gcs.external -}}
{{- if and (include "longreach.redis.isUsed" (dict "root" . "role" "gcs")) (hasPrefix "rediss:" $gcs.url) }}
{{- if $gcs.caKey }}
- {name: RAY_REDIS_CA_CERT, value: /etc/longreach/redis-gcs/ca.crt}
{{- else }}
- {name: RAY_REDIS_CA_PATH, value: /etc/ssl/certs}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Seconds until the kill, from the longest drain: cluster/core/drain.py says what adds up, and a test keeps the two equal.
The argument is the longest engine.drain_s.
*/}}
{{- define "longreach.workerGrace" -}}{{ add 32 . }}{{- end -}}
{{- define "longreach.rankLimit" -}}{{ add 16 . }}{{- end -}}
{{- define "longreach.rankGrace" -}}{{ add 46 . }}{{- end -}}
{{/* (dict "drain" seconds "spans" whether some replicas span hosts) */}}
{{- define "longreach.headLimit" -}}{{ add (ternary 80 66 .spans) .drain }}{{- end -}}
{{- define "longreach.headGrace" -}}{{ add (ternary 110 96 .spans) .drain }}{{- end -}}

{{/* The head. It outlives its workers' drains: without the GCS, raylets end themselves after a minute. */}}
{{- define "longreach.headPod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $head := $values.head -}}
{{- $gcsCa := and (include "longreach.redis.isUsed" (dict "root" $root "role" "gcs")) (hasPrefix "rediss:" $values.redis.gcs.external.url) $values.redis.gcs.external.caKey -}}
metadata:
  labels:
    {{- include "longreach.labels" (dict "root" $root "component" "ray-head") | nindent 4 }}
    longreach.dev/revision: {{ ternary "canary" "stable" .canary }}
    {{- with $head.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # What engines are built from: a change of it makes a new cluster, beside the old one.
    {{- $engines := list }}
    {{- range .served.pools }}{{- $engines = append $engines (omit . "traffic" "replicas" "autoscaling") }}{{- end }}
    {{- /* Without the autoscaler nobody else would add workers for more replicas. */}}
    {{- $counts := list }}
    {{- if not .scales }}{{- range .served.pools }}{{- $counts = append $counts (default dict .replicas) }}{{- end }}{{- end }}
    longreach.dev/engines: {{ toJson (list $engines .served.models $counts) | sha256sum | trunc 16 }}
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    {{- with merge (dict) $head.podAnnotations $values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "longreach.podSecurity" $root | nindent 2 }}
  {{- include "longreach.pullSecrets" $root | nindent 2 }}
  serviceAccountName: {{ if .scales }}{{ include "longreach.headAccountName" $root }}{{ else }}{{ include "longreach.serviceAccountName" $root }}{{ end }}
  automountServiceAccountToken: {{ .scales }}
  restartPolicy: {{ ternary "Never" "Always" .scales }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "longreach.headGrace" . }}
  {{- include "longreach.scheduling" $head | nindent 2 }}
  containers:
    - name: ray-head
      image: {{ include "longreach.engineImage" (dict "root" $root "cuda" .cuda "canary" .canary) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      {{- include "longreach.containerSecurity" $root | nindent 6 }}
      env:
        {{- include "longreach.unique" (dict "key" "name" "lists" (list (include "longreach.rayEnv" $root) (include "longreach.gcsEnv" $root) (toYaml $values.ray.extraEnv))) | nindent 8 }}
      ports:
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: client, containerPort: 10001}
        - {name: metrics, containerPort: 8080}
        - {name: serve, containerPort: 8000}
        - {name: agent, containerPort: 52365}
      startupProbe:
        httpGet: {path: /api/gcs_healthz, port: dashboard}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /api/local_raylet_healthz, port: agent}
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: 12
      readinessProbe:
        httpGet: {path: /api/gcs_healthz, port: dashboard}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 10
      lifecycle:
        preStop:
          exec:
            command: [python, -m, cluster.engine.node_drain, head, --limit-s, {{ include "longreach.headLimit" . | quote }}]
      resources:
        {{- toYaml $head.resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: run, mountPath: /var/lib/longreach}
        - {name: shm, mountPath: /dev/shm}
        - {name: config, mountPath: /etc/longreach/config, readOnly: true}
        {{- if $gcsCa }}
        - {name: redis-gcs, mountPath: /etc/longreach/redis-gcs, readOnly: true}
        {{- end }}
        {{- with include "longreach.storeMounts" $root }}
        {{- trim . | nindent 8 }}
        {{- end }}
        {{- with $head.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - {name: run, emptyDir: {}}
    - {name: shm, emptyDir: {medium: Memory, sizeLimit: 1Gi}}
    - name: config
      configMap: {name: {{ include "longreach.fullname" $root }}-config}
    {{- if $gcsCa }}
    - name: redis-gcs
      secret:
        secretName: {{ $values.redis.gcs.external.existingSecret }}
        defaultMode: 0440
        items: [{key: {{ $values.redis.gcs.external.caKey }}, path: ca.crt}]
    {{- end }}
    {{- with include "longreach.storeVolumes" $root }}
    {{- trim . | nindent 4 }}
    {{- end }}
    {{- with $head.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}

{{/* A worker of one group. */}}
{{- define "longreach.workerPod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $group := .group -}}
{{- $cuda := gt (int $group.gpu.count) 0 -}}
{{- $spans := gt (int $group.hosts) 1 -}}
{{- $resources := deepCopy $group.resources -}}
{{- if $cuda -}}
{{- range $side := list "requests" "limits" -}}
{{- $_ := set $resources $side (merge (dict $group.gpu.resource (int $group.gpu.count)) (default dict (index $resources $side))) -}}
{{- end -}}
{{- end -}}
metadata:
  labels:
    {{- include "longreach.labels" (dict "root" $root "component" "ray-worker") | nindent 4 }}
    longreach.dev/worker-group: {{ .groupName | quote }}
    longreach.dev/revision: {{ ternary "canary" "stable" .canary }}
    {{- with $group.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A node is emptied by Ray, which knows what is idle, not under running streams.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    {{- with merge (dict) (default dict $group.podAnnotations) $values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "longreach.podSecurity" $root | nindent 2 }}
  {{- include "longreach.pullSecrets" $root | nindent 2 }}
  serviceAccountName: {{ include "longreach.serviceAccountName" $root }}
  automountServiceAccountToken: false
  # A preempted or failed worker is replaced by the operator; autoscaler v2 asks for it as well.
  restartPolicy: Never
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include (ternary "longreach.rankGrace" "longreach.workerGrace" $spans) .drain }}
  {{- with $group.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- include "longreach.scheduling" (omit $group "affinity") | nindent 2 }}
  {{- $affinity := default dict $group.affinity }}
  {{- if $group.gpu.products }}
  {{- /* Terms are alternatives, so the product joins each of the user's. */}}
  {{- $match := dict "key" "nvidia.com/gpu.product" "operator" "In" "values" $group.gpu.products }}
  {{- $node := default dict $affinity.nodeAffinity }}
  {{- $terms := list }}
  {{- range dig "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" (list dict) $node }}
  {{- $terms = append $terms (set (deepCopy .) "matchExpressions" (append (default list .matchExpressions) $match)) }}
  {{- end }}
  {{- $required := dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) }}
  {{- $affinity = merge (dict "nodeAffinity" (merge $required $node)) $affinity }}
  {{- end }}
  {{- with $affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: ray-worker
      image: {{ $group.image | default (include "longreach.engineImage" (dict "root" $root "cuda" $cuda "canary" .canary)) }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      {{- include "longreach.containerSecurity" $root | nindent 6 }}
      env:
        {{- include "longreach.unique" (dict "key" "name" "lists" (list (include "longreach.rayEnv" $root) (include "longreach.hubEnv" $root) (toYaml $values.ray.extraEnv) (toYaml $group.extraEnv))) | nindent 8 }}
      ports:
        - {name: metrics, containerPort: 8080}
        - {name: replicas, containerPort: 30000}
        - {name: agent, containerPort: 52365}
      startupProbe:
        httpGet: {path: /api/local_raylet_healthz, port: agent}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /api/local_raylet_healthz, port: agent}
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: 12
      # KubeRay's own would wait for a Serve proxy, which runs on the head only: no worker would ever be ready.
      readinessProbe:
        httpGet: {path: /api/local_raylet_healthz, port: agent}
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 6
      lifecycle:
        preStop:
          exec:
            {{- if $spans }}
            # One of these pods has the replica, the others ranks of it: all stay until it has no request left.
            command: [python, -m, cluster.engine.node_drain, rank, --limit-s, {{ include "longreach.rankLimit" .drain | quote }}]
            {{- else }}
            command: [python, -m, cluster.engine.node_drain, worker, --limit-s, {{ .drain | quote }}]
            {{- end }}
      resources:
        {{- toYaml $resources | nindent 8 }}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        - {name: run, mountPath: /var/lib/longreach}
        - {name: shm, mountPath: /dev/shm}
        {{- if $spans }}
        - {name: config, mountPath: /etc/longreach/config, readOnly: true}
        {{- end }}
        - {name: models, mountPath: /models{{ with $values.modelCache.subPath }}, subPath: {{ . }}{{ end }}}
        {{- with include "longreach.hubMount" $root }}
        {{- trim . | nindent 8 }}
        {{- end }}
        {{- with include "longreach.storeMounts" $root }}
        {{- trim . | nindent 8 }}
        {{- end }}
        {{- with $group.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - {name: tmp, emptyDir: {}}
    - {name: run, emptyDir: {}}
    - {name: shm, emptyDir: {medium: Memory, sizeLimit: {{ $group.shmSize }}}}
    {{- if $spans }}
    - name: config
      configMap: {name: {{ include "longreach.fullname" $root }}-config}
    {{- end }}
    {{- include "longreach.modelVolume" $root | nindent 4 }}
    {{- with include "longreach.hubVolume" $root }}
    {{- trim . | nindent 4 }}
    {{- end }}
    {{- with include "longreach.storeVolumes" $root }}
    {{- trim . | nindent 4 }}
    {{- end }}
    {{- with $group.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
