{{/* The name of all that belongs to the operator: the release's, with the chart's unless it is in it. */}}
{{- define "durable-write.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "durable-write.selector" -}}
app.kubernetes.io/name: durable-write-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "durable-write.labels" -}}
{{ include "durable-write.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: durable-write
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "durable-write.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* The operator, as admission policies see it. */}}
{{- define "durable-write.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "durable-write.name" . }}
{{- end -}}

{{/* The name of the Kubernetes cluster, without which nobody could open an Aurora cluster to drills. */}}
{{- define "durable-write.clusterName" -}}
{{- if and .Values.drills.enabled (not .Values.clusterName) -}}
{{- fail "drills.enabled needs clusterName: set it to the name of this Kubernetes cluster. Owners of Aurora clusters open them to drills by the tag durablewrite.dev/drills.<clusterName>." -}}
{{- end -}}
{{- .Values.clusterName -}}
{{- end -}}

{{/* AWS settings as environment variables, of the services in the list: (list $ "sqs" "sts"). */}}
{{- define "durable-write.aws" -}}
{{- $root := first . -}}
{{- $variables := list -}}
{{- with $root.Values.aws.region -}}
{{- $variables = append $variables (dict "name" "AWS_REGION" "value" .) -}}
{{- end -}}
{{- $names := dict "sqs" "SQS" "rds" "RDS" "sts" "STS" "secretsmanager" "SECRETS_MANAGER" -}}
{{- range rest . -}}
{{- $name := get $names . -}}
{{- with get $root.Values.aws.endpointUrl . -}}
{{- $variables = append $variables (dict "name" (printf "AWS_ENDPOINT_URL_%s" $name) "value" .) -}}
{{- end -}}
{{- end -}}
{{- $variables | toJson -}}
{{- end -}}
