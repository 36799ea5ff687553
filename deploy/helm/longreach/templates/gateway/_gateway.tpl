{{- define "longreach.servesGrpc" -}}
{{- if ne (dig "gateway" "grpc" "enabled" true .Values.config | toString) "false" }}true{{ end -}}
{{- end -}}

{{- define "longreach.tlsSecret" -}}
{{- default (printf "%s-tls" (include "longreach.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{/*
Where gateways have tokenizers from: a claim that somebody else filled is read in place; otherwise each pod fetches a few
megabytes of its own, because the chart's own claim may be bound to a worker's node.
*/}}
{{- define "longreach.readsClaim" -}}
{{- if and (eq .Values.modelCache.type "pvc") .Values.modelCache.existingClaim }}true{{ end -}}
{{- end -}}

{{- define "longreach.gatewayEnv" -}}
- {name: LONGREACH_CACHE, value: /models}
- {name: LONGREACH_STATE, value: /var/lib/longreach}
- {name: HOME, value: /var/lib/longreach}
- {name: PYTHONUNBUFFERED, value: "1"}
{{ include "longreach.credentialEnv" . }}
{{- with include "longreach.otelEnv" . }}
{{ trim . }}
{{- end }}
{{- end -}}
