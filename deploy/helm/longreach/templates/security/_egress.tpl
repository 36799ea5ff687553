{{- define "longreach.dnsEgress" -}}
- to:
    {{- toYaml .Values.networkPolicy.dns | nindent 4 }}
  ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- end -}}

{{/* Stores of this release by their pods; those elsewhere by the port of their address, to anywhere. */}}
{{- define "longreach.redisEgress" -}}
{{- $root := .root -}}
{{- range $role := .roles }}
{{- $of := dict "root" $root "role" $role }}
{{- $external := (index $root.Values.redis $role).external }}
{{- if include "longreach.redis.isOwn" $of }}
- to: [{podSelector: {matchLabels: {{ include "longreach.selectorLabels" (dict "root" $root "component" (printf "redis-%s" $role)) | fromYaml | toJson }}}}]
  ports: [{port: redis}]
{{- else if $external.url }}
- ports: [{port: {{ regexFind ":[0-9]+" ($external.url | replace "://" "//") | trimPrefix ":" | default "6379" }}}]
{{- end }}
{{- end }}
{{- end -}}

{{/* Where models and tokenizers come from, and where telemetry goes. */}}
{{- define "longreach.sourceEgress" -}}
{{- with .Values.networkPolicy.modelSources }}
{{- if .cidrs }}
- to:
    {{- range .cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .ports }}
    - {port: {{ . | int64 }}}
    {{- end }}
{{- end }}
{{- end }}
{{- if .Values.otel.endpoint }}
- ports: [{port: {{ regexFind ":[0-9]+" (.Values.otel.endpoint | replace "://" "//") | trimPrefix ":" | default "4317" }}}]
{{- end }}
{{- end -}}
