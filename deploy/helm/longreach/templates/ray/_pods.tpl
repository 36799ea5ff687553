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
# The preStop hook has drained already, and Serve has nowhere to put a replica of a cluster that ends.
- {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: "0"}
- {name: LONGREACH_CACHE, value: /models}
- {name: LONGREACH_STATE, value: /var/lib/longreach}
- {name: HOME, value: /var/lib/longreach}
{{ include "longreach.credentialEnv" . }}
{{- with include "longreach.otelEnv" . }}
{{ trim . }}
{{- end }}
{{- with .Values.ray.extraEnv }}
{{ toYaml . }}
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
metadata:
  labels:
    {{- include "longreach.labels" (dict "root" $root "component" "ray-head") | nindent 4 }}
    longreach.dev/revision: {{ ternary "canary" "stable" .canary }}
    {{- with $head.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # What engines are built from: a change of it makes a new cluster, beside the old one.
    longreach.dev/engines: {{ range .served.pools }}{{ omit . "replicas" "traffic" | toJson | sha256sum | trunc 8 }}{{ end }}-{{ toJson .served.models | sha256sum | trunc 8 }}
    {{- with merge (dict) $head.podAnnotations $values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "longreach.podSecurity" $root | nindent 2 }}
  {{- include "longreach.pullSecrets" $root | nindent 2 }}
  serviceAccountName: {{ include "longreach.serviceAccountName" $root }}{{ if .scales }}-head{{ end }}
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
        {{- include "longreach.rayEnv" $root | nindent 8 }}
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
  {{- with merge (dict) (default dict $group.podAnnotations) $values.commonAnnotations }}
  annotations:
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
  {{- $match := list (dict "key" "nvidia.com/gpu.product" "operator" "In" "values" $group.gpu.products) }}
  {{- $node := dict "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" (list (dict "matchExpressions" $match))) }}
  {{- $affinity = merge (dict "nodeAffinity" $node) $affinity }}
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
        {{- include "longreach.rayEnv" $root | nindent 8 }}
        {{- with include "longreach.hubEnv" $root }}
        {{- trim . | nindent 8 }}
        {{- end }}
        {{- with $group.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
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
