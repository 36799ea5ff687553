{{/* What every pod and container has: the restricted Pod Security Standard, and a root file system nobody writes. */}}
{{- define "longreach.podSecurity" -}}
securityContext:
  runAsNonRoot: true
  {{- with .Values.podSecurity.runAsUser }}
  runAsUser: {{ . | int64 }}
  {{- end }}
  {{- if not (kindIs "invalid" .Values.podSecurity.runAsGroup) }}
  runAsGroup: {{ .Values.podSecurity.runAsGroup | int64 }}
  {{- end }}
  {{- with .Values.podSecurity.fsGroup }}
  fsGroup: {{ . | int64 }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "longreach.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* nodeSelector, tolerations, affinity, priorityClassName of a component's values. */}}
{{- define "longreach.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "longreach.credentialEnv" -}}
- name: LONGREACH_REPLICA_CREDENTIAL
  valueFrom:
    secretKeyRef:
      name: {{ default (printf "%s-credential" (include "longreach.fullname" .)) .Values.credential.existingSecret }}
      key: {{ .Values.credential.key }}
{{- end -}}

{{- define "longreach.otelEnv" -}}
{{- if .Values.otel.endpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.otel.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .Values.otel.protocol }}
{{- with .Values.otel.headersSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: headers}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where models come from; for whatever pulls them. */}}
{{- define "longreach.hubEnv" -}}
{{- $hub := .Values.modelCache.hub -}}
{{- with $hub.endpoint }}
- name: HF_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if $hub.offline }}
- name: HF_HUB_OFFLINE
  value: "1"
{{- end }}
{{- if $hub.existingSecret }}
- name: HF_TOKEN_PATH
  value: /etc/longreach/hub/token
{{- end }}
{{- with .Values.modelCache.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "longreach.hubMount" -}}
{{- if .Values.modelCache.hub.existingSecret }}
- {name: hub, mountPath: /etc/longreach/hub, readOnly: true}
{{- end }}
{{- end -}}

{{- define "longreach.hubVolume" -}}
{{- $hub := .Values.modelCache.hub -}}
{{- if $hub.existingSecret }}
- name: hub
  secret:
    secretName: {{ $hub.existingSecret }}
    defaultMode: 0440
    items: [{key: {{ $hub.tokenKey }}, path: token}]
{{- end }}
{{- end -}}

{{/* Logins of the stores, as files: a rotated Secret reaches them, and no environment shows them. */}}
{{- define "longreach.storeMounts" -}}
{{- if include "longreach.redis.hasLogin" (dict "root" . "role" "state") }}
- {name: redis-state, mountPath: /etc/longreach/redis-state, readOnly: true}
{{- end }}
{{- if include "longreach.redis.hasLogin" (dict "root" . "role" "cache") }}
- {name: redis-cache, mountPath: /etc/longreach/redis-cache, readOnly: true}
{{- end }}
{{- end -}}

{{- define "longreach.storeVolumes" -}}
{{- $root := . -}}
{{- range $role := list "state" "cache" }}
{{- if include "longreach.redis.hasLogin" (dict "root" $root "role" $role) }}
- name: redis-{{ $role }}
  secret:
    {{- $external := (index $root.Values.redis $role).external }}
    secretName: {{ include "longreach.redis.secret" (dict "root" $root "role" $role) }}
    defaultMode: 0440
    items:
      - {key: {{ include "longreach.redis.passwordKey" (dict "root" $root "role" $role) }}, path: password}
      {{- if and $external.url $external.caKey }}
      - {key: {{ $external.caKey }}, path: ca.crt}
      {{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/*
Lists put together, the last of one key winning: KubeRay and the API server refuse two environment variables of one name,
and two mounts at one path. (dict "key" "name" "lists" (list YAML …))
*/}}
{{- define "longreach.unique" -}}
{{- $key := .key -}}
{{- $order := list -}}
{{- $found := dict -}}
{{- range $text := .lists -}}
{{- range $item := default list (fromYamlArray (default "[]" (trim $text))) -}}
{{- $name := get $item $key -}}
{{- if not (hasKey $found $name) -}}{{- $order = append $order $name -}}{{- end -}}
{{- $_ := set $found $name $item -}}
{{- end -}}
{{- end -}}
{{- $all := list -}}
{{- range $order -}}{{- $all = append $all (get $found .) -}}{{- end -}}
{{- toYaml $all -}}
{{- end -}}
